"""Numbers and names as the pages and the terminal show them."""

import re

from longtail.evaluation import Difference

DASH = "\N{EN DASH}"
"""Placeholder of a value that does not exist."""
GROUP_WORDS = {"many": "frequent classes", "medium": "medium-frequency classes", "few": "rare classes"}
"""Shot groups in the sentences of a summary."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    r"""Replace control characters and lone surrogates (from file names), which encoders and parsers reject.

    Example:
        >>> clean("caf\x00\udce9")
        'caf\ufffd\ufffd'
    """
    return _CONTROL.sub("\ufffd", text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def number(value: float | None, digits: int = 1) -> str:
    """Format a number with a thousands separator; None as a dash.

    Example:
        >>> number(61.26), number(1234.5, 0), number(None) == DASH
        ('61.3', '1,234', True)
    """
    return DASH if value is None else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a percentage, kept on one line with its sign; None as a dash.

    Example:
        >>> percent(61.26).replace("\N{NARROW NO-BREAK SPACE}", "_")
        '61.3_%'
    """
    return DASH if value is None else f"{value:,.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def several(count: int, one: str, more: str = "") -> str:
    """Format a count with its noun.

    Example:
        >>> several(1, "image"), several(2500, "image"), several(2, "class", "classes")
        ('1 image', '2,500 images', '2 classes')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def points(value: float | None, digits: int = 1) -> str:
    """Format a difference with its sign; None as a dash.

    Example:
        >>> points(8.01), points(0.04), points(-2).replace("\N{MINUS SIGN}", "-")
        ('+8.0', '0.0', '-2.0')
    """
    if value is None:
        return DASH
    text = number(abs(value), digits)
    if not float(text.replace(",", "")):
        return text
    return ("+" if value > 0 else "\N{MINUS SIGN}") + text


def interval(found: Difference) -> str:
    """Format the interval of a difference.

    Example:
        >>> interval(Difference(8.0, 7.1, 8.9, 0.001))
        '+7.1 to +8.9'
    """
    return f"{points(found.low)} to {points(found.high)}"


def listed(texts: list[str]) -> str:
    """Join texts with commas and "and".

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return f"{', '.join(texts[:-1])} and {texts[-1]}" if len(texts) > 1 else texts[0]
