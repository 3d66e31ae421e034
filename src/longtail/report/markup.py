"""HTML that escapes by default: what is not `Html` already is text, whoever wrote it."""

import html
import re
from collections.abc import Iterable

VOID = frozenset({"br", "col", "hr", "img", "meta"})
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Html(str):
    """Text that is markup already and goes into a page as it is."""

    __slots__ = ()


def clean(text: str) -> str:
    r"""Text that every encoder and parser takes: no control characters, no lone surrogates (from file names).

    Example:
        >>> clean("caf\x00\udce9")
        'caf\ufffd\ufffd'
    """
    return _CONTROL.sub("\ufffd", text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def escape(value: object) -> Html:
    """Markup as it is, anything else as escaped text, quotes too.

    Example:
        >>> escape('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    return value if isinstance(value, Html) else Html(html.escape(clean(str(value)), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element with its children and attributes, all escaped.

    Args:
        name: of the element.
        children: text or `Html`; None is left out.
        attributes: by name; "_" becomes "-" and a trailing "_" is dropped (`class_`). True writes the bare name; None
            and False leave it out.

    Example:
        >>> tag("p", "1 < 2", class_="note", data_row=3)
        '<p class="note" data-row="3">1 &lt; 2</p>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object], separator: str = "") -> Html:
    """Children one after the other.

    Example:
        >>> join(["a", tag("br"), "<b"])
        'a<br>&lt;b'
    """
    return Html(separator.join(escape(child) for child in children if child is not None))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'
