"""Pages from the templates: one file each, which needs no network.

Jinja escapes every value. The policy of a page forbids any script but its own, any connection, and any image that is
not part of the page.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from longtail._io import write_text
from longtail.errors import InputError
from longtail.report.wording import DASH, clean, number, percent, points, several
from longtail.version import __version__


class _Templates(BaseLoader):
    """Templates of this package, without their indentation: it would be a large part of a page."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        path = files("longtail.report") / "templates" / template
        if not path.is_file():
            raise TemplateNotFound(template)
        return re.sub(r"(?<=\n)[ \t]+", "", path.read_text("utf-8")), str(path), lambda: True


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=_Templates(), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(number=number, percent=percent, points=points, several=several)
    environment.globals.update(DASH=DASH, version=__version__)
    return environment


def render(template: str, **values: Any) -> Markup:
    """Render a template. Strings are escaped unless they are `Markup`.

    Args:
        template: File name in the folder `templates`.
        values: Variables of the template.
    """
    return Markup(_environment().get_template(template).render(values).strip())


def render_page(template: str, **values: Any) -> str:
    """Render a whole page: a template that extends `base.html.j2`, with style sheet, script and policy.

    Args:
        template: File name in the folder `templates`.
        values: Variables of the template.
    """
    kind = template.split(".")[0]
    script = _asset("page.js", kind)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    page = render(
        template, css=Markup(_asset("page.css", kind)), script=Markup(script), policy=Markup(policy), **values
    )
    return clean(page) + "\n"


@cache
def _asset(name: str, page: str) -> str:
    """Return a style sheet or script without indentation, with its common part and the part of one kind of page.

    Args:
        name: File name in this package.
        page: Kind of page, as in the lines with "==" that start a part.
    """
    text = re.sub(r"^\s+", "", (files("longtail.report") / name).read_text("utf-8"), flags=re.MULTILINE)
    common, *parts = re.split(r"^(?://|/\*) == ([\w ]+\w).*\n", text, flags=re.MULTILINE)
    own = [part for pages, part in zip(parts[::2], parts[1::2], strict=True) if page in pages.split()]
    text = "".join([common, *own])
    if name.endswith(".css"):
        return re.sub(r"(?<=[;{}]) | (?=[{}])|\n", "", text)
    return re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)


def write_page(target: Path, text: str) -> Path:
    """Write a page atomically.

    Args:
        target: File to write.
        text: Content of the page.

    Raises:
        InputError: If the file cannot be written.
    """
    try:
        if target.is_dir():
            raise InputError(f"cannot write the report to {target}: it is a folder; give the path of a file")
        if not target.parent.is_dir():
            raise InputError(f"cannot write the report to {target}: there is no folder {target.parent}; create it")
        write_text(target, text)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot write the report to {target}: {reason}; give another file") from error
    return target
