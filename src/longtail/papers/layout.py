"""What several figures draw alike: panels in rows, and one legend for all runs above them."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longtail.papers.series import looks

LEGEND_LINE = 0.24  # inches
_LEGEND_CHARACTERS = 62  # of one line, handles included


def legend_columns(labels: Sequence[str]) -> int:
    """How many columns a legend as wide as the figure has room for; it fills them one after the other.

    Example:
        >>> legend_columns(["ce", "balanced-softmax", "balms"]), legend_columns(["a rather long name of a run"] * 4)
        (3, 1)
    """
    for columns in range(len(labels), 1, -1):
        widths = [max(map(len, column), default=0) + 7 for column in np.array_split(np.array(labels), columns)]
        if sum(widths) <= _LEGEND_CHARACTERS:
            return columns
    return 1


def legend_height(labels: Sequence[str]) -> float:
    """Height of that legend in inches."""
    return LEGEND_LINE * math.ceil(len(labels) / legend_columns(labels)) + 0.1


def run_legend(figure: Figure, labels: Sequence[str], *, markers: bool = False) -> None:
    """A legend of the runs above all panels, as lines in their dashes, with their markers if these are drawn too."""
    handles = [
        Line2D([], [], color=look.colour, linestyle=look.dash, marker=look.marker if markers else "", ms=5, label=label)
        for label, look in zip(labels, looks(len(labels)), strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(labels), handlelength=2.6)


def panels_in_rows(figure: Figure, count: int, columns: int, *, share: bool = True) -> list[Axes]:
    """A number of panels in rows; the places that are left over stay empty.

    Args:
        figure: to put them on.
        count: of panels.
        columns: at most, in a row.
        share: one scale for all.
    """
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).flatten().tolist()
    for axes in grid[count:]:
        axes.set_visible(False)
    for axes in grid[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)  # also above an empty place
    panels: list[Axes] = grid[:count]
    return panels
