"""Numbers that a user writes, read by one rule: on the command line, in configurations and in tables."""

import math
import re

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def parse_integer(text: str) -> int:
    """Return the integer that a user wrote: ASCII digits with an optional sign, at most 18 digits.

    Python's `int` also reads digit groups ("1_000"), spaces and digits of other scripts.

    Args:
        text: The text.

    Raises:
        ValueError: If the text is not such an integer.

    Example:
        >>> parse_integer("-12")
        -12
    """
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"not an integer: {text!r}")
    return int(text)


def parse_number(text: str) -> float:
    """Return the finite number that a user wrote: ASCII digits, with an optional sign, decimal point and exponent.

    Args:
        text: The text.

    Raises:
        ValueError: If the text is not such a number, or is too large for a float.

    Example:
        >>> parse_number("1e-2"), parse_number(".5")
        (0.01, 0.5)
    """
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text!r}")
    return value
