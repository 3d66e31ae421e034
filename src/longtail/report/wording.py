"""Numbers as people read them."""

DASH = "\N{EN DASH}"  # what stands where there is nothing to measure


def number(value: float | None, digits: int = 1) -> str:
    """A number with thousands separated; a dash for None.

    Example:
        >>> number(61.26), number(1234.5, 0), number(None) == DASH
        ('61.3', '1,234', True)
    """
    return DASH if value is None else f"{value:,.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A percentage with its sign, kept on one line; a dash for None.

    Example:
        >>> percent(61.26).replace("\N{NARROW NO-BREAK SPACE}", "_")
        '61.3_%'
    """
    return DASH if value is None else f"{value:,.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def several(count: int, one: str, more: str = "") -> str:
    """A count with its noun.

    Example:
        >>> several(1, "image"), several(2500, "image"), several(2, "class", "classes")
        ('1 image', '2,500 images', '2 classes')
    """
    return f"{count:,} {one if count == 1 else more or one + 's'}"
