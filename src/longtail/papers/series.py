"""One look per run, the same in every figure: told apart by colour, by marker and by dash.

Colours are Okabe and Ito's (2008), without their yellow, which no white page shows.
"""

from typing import NamedTuple

from matplotlib.typing import LineStyleType

from longtail.errors import InputError
from longtail.report.palette import INK

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "h", "*")
DASHES: tuple[LineStyleType, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "||||", "++++", "oooo", "****")
MOST = len(MARKERS)
"""Runs that one figure tells apart."""


class Look(NamedTuple):
    """How one run is drawn: `hatch` fills bars, `dash` lines."""

    colour: str
    marker: str
    dash: LineStyleType
    hatch: str


def looks(count: int) -> list[Look]:
    """The looks of a number of runs, in their order.

    Raises:
        InputError: for more than a reader can tell apart.

    Example:
        >>> [look.marker for look in looks(3)]
        ['o', '^', 's']
    """
    if count > MOST:
        raise InputError(f"a figure tells at most {MOST} runs apart, not {count}; draw fewer of them")
    return [
        Look(COLOURS[place % len(COLOURS)], MARKERS[place], DASHES[place % len(DASHES)], HATCHES[place])
        for place in range(count)
    ]
