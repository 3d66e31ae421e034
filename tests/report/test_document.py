import base64
import hashlib
from pathlib import Path

import pytest

from longtail.errors import InputError
from longtail.report.document import asset, document, write_page
from longtail.report.markup import Html

from .conftest import Page


def test_a_document_holds_its_parts_and_lets_no_other_script_run() -> None:
    text = document("R & D <1>", Html("<p>text</p>"), "p { margin: 0; }", "let a = 1 < 2;")
    page = Page(text)
    assert text.startswith("<!doctype html>\n<html")
    assert page.open == []
    assert page.texts["title"] == ["R & D <1>"]
    assert page.texts["style"] == ["p { margin: 0; }"]
    assert page.texts["script"] == ["let a = 1 < 2;"]
    [policy] = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(b"let a = 1 < 2;").digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_assets_lie_in_their_packages() -> None:
    assert "--paper" in asset("page.css")
    assert "compared" in asset("compare.css", "longtail.report.comparison")


def test_a_page_is_written_or_refused(tmp_path: Path) -> None:
    assert write_page(tmp_path / "page.html", "text").read_text() == "text"
    with pytest.raises(InputError, match="it is a folder"):
        write_page(tmp_path, "text")
    with pytest.raises(InputError, match="there is no folder"):
        write_page(tmp_path / "none" / "page.html", "text")
    with pytest.raises(InputError, match="null byte"):
        write_page(tmp_path / "\0.html", "text")
