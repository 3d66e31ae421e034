"""Ranges of numeric settings: stated with the field, checked at construction."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from longtail.errors import InputError


@dataclass(frozen=True)
class Range:
    """Interval of allowed numbers. NaN is never allowed, infinity only where `infinite` is set.

    Args:
        at_least: Smallest allowed value.
        above: Largest value that is too small.
        at_most: Largest allowed value.
        below: Smallest value that is too large.
        infinite: Allow infinity.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        return not (
            math.isnan(value)
            or (math.isinf(value) and not self.infinite)
            or (self.at_least is not None and value < self.at_least)
            or (self.above is not None and value <= self.above)
            or (self.at_most is not None and value > self.at_most)
            or (self.below is not None and value >= self.below)
        )

    def __str__(self) -> str:
        bounds = {">=": self.at_least, ">": self.above, "<=": self.at_most, "<": self.below}
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None) or "finite"


OMIT_DEFAULT = {"omit_default": True}
"""Metadata of a field that the mapping of a configuration leaves out while it has its default."""


def check_number(
    name: str, value: object, hint: str = "", *, integer: bool = False, optional: bool = False, **bounds: Any
) -> None:
    """Check a numeric option of a component.

    Args:
        name: Name of the option, for the message.
        value: Its value.
        hint: Values of the paper or special values, for the message.
        integer: Accept integers only.
        optional: Accept None.
        bounds: Arguments of `Range`.

    Raises:
        InputError: With the name, the range and the value.

    Example:
        >>> check_number("tau", float("nan"), "1 in the paper", at_least=0)
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `tau` must be >= 0 (1 in the paper), got nan
    """
    if optional and value is None:
        return
    allowed, real = Range(**bounds), isinstance(value, (int, float, np.integer, np.floating))
    is_kind = real and not isinstance(value, bool) and not (integer and isinstance(value, (float, np.floating)))
    if is_kind and value in allowed:  # type: ignore[operator]
        return
    kind = "an integer" if integer else "" if is_kind else "a number"
    limits = "" if kind and str(allowed) == "finite" else str(allowed)
    rule = " ".join(filter(None, [kind, limits])) + (" or None" if optional else "")
    raise InputError(f"`{name}` must be {rule}{f' ({hint})' if hint else ''}, got {value!r}")


def ranged(default: Any, *, omit_default: bool = False, **bounds: Any) -> Any:
    """Return a dataclass field with a default and the range of its values.

    Args:
        default: Default value.
        omit_default: Leave the field out of the mapping of a configuration while it has its default.
        bounds: Arguments of `Range`.

    Example:
        >>> @dataclass(frozen=True)
        ... class Settings:
        ...     lr: float = ranged(0.1, above=0)
        ...
        ...     def __post_init__(self) -> None:
        ...         check_ranges(self)
        >>> Settings(lr=-1.0)
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `lr` must be > 0, got -1.0
    """
    return dataclasses.field(default=default, metadata={"range": Range(**bounds), "omit_default": omit_default})


def check_ranges(settings: Any) -> None:
    """Check every `ranged` field of a dataclass; each number of a tuple is checked, None is allowed.

    Raises:
        InputError: With the name, the range and the value.
    """
    for each in dataclasses.fields(settings):
        allowed, value = each.metadata.get("range"), getattr(settings, each.name)
        if allowed is None or value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise InputError(f"`{each.name}` must be a number, got {number!r}")
            if number not in allowed:
                raise InputError(f"`{each.name}` must be {allowed}, got {number!r}")
