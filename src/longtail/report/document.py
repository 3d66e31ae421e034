"""A page as one file: the frame around its body, and how it is written."""

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path

from longtail._io import write_text
from longtail.errors import InputError
from longtail.report.markup import Html, tag


def document(title: str, body: Html, css: str, script: str) -> str:
    r"""A whole page that needs no network: its policy forbids any script but its own, any connection, foreign images.

    Args:
        title: of the window.
        body: the content of the body.
        css: the style sheet.
        script: runs at the end of the body.

    Example:
        >>> document("R & D", Html("<p>text</p>"), "", "")[:47]
        '<!doctype html>\n<html lang="en"><head><meta cha'
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(css)),
    )
    page = tag("html", head, tag("body", body, tag("script", Html(script))), lang="en")
    return f"<!doctype html>\n{page}\n"


def asset(name: str, package: str = "longtail.report") -> str:
    """The text of a style sheet or script that lies in a package."""
    return (files(package) / name).read_text("utf-8")


def write_page(target: Path, text: str) -> Path:
    """Write a page whole or not at all.

    Raises:
        InputError: if it cannot be written there.
    """
    if os.path.isdir(target):
        raise InputError(f"cannot write the report to {target}: it is a folder; give the path of a file to write")
    if not os.path.isdir(target.parent):
        raise InputError(f"cannot write the report to {target}: there is no folder {target.parent}; make it first")
    try:
        write_text(target, text)
    except (OSError, ValueError) as error:  # the latter for a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write the report to {target}: {reason}; give another file to write") from error
    return target
