import base64
import hashlib
from pathlib import Path

import pytest
from markupsafe import Markup

from longtail.errors import InputError
from longtail.report.html import _asset, render, render_page, write_page

from .made_up import Page

NASTY = ["<script>alert(1)</script>", 'a" onload="x', "a' b", "&amp; & <", "</p>", "<!--", "]]>", "日本語 العربية"]


def bench_page(title: str) -> str:
    """The page with the fewest variables."""
    return render_page(
        "bench.html.j2", title=title, subtitle="", warnings=[], tables=[], legend="legend", data=Markup("[]")
    )


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text(text: str) -> None:
    page = Page(bench_page(text))
    assert page.texts["title"] == page.texts["h1"] == [text]
    assert len(page.texts["script"]) == 2


def test_control_characters_and_lone_surrogates_are_replaced() -> None:
    text = bench_page("a\x00b caf\udce9")
    assert text.encode("utf-8")
    assert Page(text).texts["h1"] == ["a\ufffdb caf\ufffd"]


def test_a_page_lets_no_other_script_run() -> None:
    text = bench_page("title")
    page = Page(text)
    assert text.startswith("<!doctype html>\n<html")
    assert page.open == []
    script = page.texts["script"][-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_each_kind_of_page_has_the_common_and_its_own_assets() -> None:
    assert all("--paper" in _asset("page.css", kind) for kind in ("run", "comparison", "bench"))
    assert all("sortable" in _asset("page.js", kind) for kind in ("run", "comparison", "bench"))
    assert ".compared" in _asset("page.css", "comparison")
    assert "findRows" in _asset("page.js", "bench")
    assert "findRows" not in _asset("page.js", "run")
    for kind in ("run", "comparison", "bench"):
        css = _asset("page.css", kind)
        assert css.count("{") == css.count("}")


def test_a_missing_variable_is_an_error() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("bench.html.j2", title="t")


def test_a_page_is_written_or_refused(tmp_path: Path) -> None:
    assert write_page(tmp_path / "page.html", "text").read_text() == "text"
    with pytest.raises(InputError, match="it is a folder"):
        write_page(tmp_path, "text")
    with pytest.raises(InputError, match="there is no folder"):
        write_page(tmp_path / "none" / "page.html", "text")
    with pytest.raises(InputError, match="null byte"):
        write_page(tmp_path / "\0.html", "text")
