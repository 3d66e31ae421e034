"""Numbers of a figure, how they are drawn, and the parts that several figures share: looks, legends and panels.

The numbers come first, so that they can be tested, printed and written next to the figure.
"""

import csv
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from longtail._io import atomic_write, write_text
from longtail.errors import InputError
from longtail.report.style import PALETTE, drawing, to_svg

DOTS_PER_INCH = 300
"""Resolution that journals require of pixel images."""
NOTE_CHARACTERS = 84
"""Characters of a line as wide as the figure."""
LEGEND_LINE = 0.24
"""Height of a line of the legend in inches."""
LEGEND_CHARACTERS = 62
"""Characters of a line of the legend, including the handles."""
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
"""Largest number of runs in one figure."""
Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """Numbers of a figure.

    Args:
        columns: Names of the columns.
        rows: One cell per column. None is left empty in the file.

    Example:
        >>> print(Table(("run", "few"), [("ce", 1.25), ("elm", None)]).to_csv())
        run,few
        ce,1.25
        elm,
        <BLANKLINE>
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]

    def to_csv(self) -> str:
        """Convert to CSV with a header and six significant digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_format_cell(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def column(self, name: str) -> list[Cell]:
        """Return the cells of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def _format_cell(cell: Cell) -> str:
    if cell is None or cell != cell:  # NaN: the value does not exist
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Plot:
    """A figure before it is drawn.

    Args:
        table: Numbers of the figure.
        draw: Function that draws them on an empty figure of the shared style.
        height: Height of the figure in inches. All figures have the same width.
        note: Note below the figure.
        summary: Lines for the terminal.
    """

    table: Table
    draw: Callable[[Figure], None]
    height: float
    note: str = ""
    summary: tuple[str, ...] = ()


def write_plot(plot: Plot, name: str, folder: Path) -> list[Path]:
    """Write NAME.svg, NAME.pdf, NAME.png and NAME.csv atomically, and return the four paths.

    Args:
        plot: Figure to draw.
        name: Name of the files without extension.
        folder: Folder of the files. It is created if missing.

    Raises:
        InputError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> plot = Plot(Table(("x", "y"), [(0, 1.0)]), lambda figure: figure.subplots().plot([0], [1]), height=2)
        >>> [path.suffix for path in write_plot(plot, "dot", Path(tempfile.mkdtemp()))]
        ['.svg', '.pdf', '.png', '.csv']
    """
    paths = [folder / f"{name}.{kind}" for kind in ("svg", "pdf", "png", "csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with drawing(plot.height) as figure:
            plot.draw(figure)
            write_text(paths[0], to_svg(figure, name, textwrap.fill(plot.note, NOTE_CHARACTERS)))
            with atomic_write(paths[1]) as file, mpl.rc_context({"pdf.fonttype": 42}):  # journals require TrueType
                figure.savefig(file, format="pdf", metadata={"CreationDate": None})
            with atomic_write(paths[2]) as file:
                figure.savefig(file, format="png", dpi=DOTS_PER_INCH, facecolor="white")
        write_text(paths[3], plot.table.to_csv())
    except OSError as error:
        raise InputError(f"cannot write the figure to {folder}: {error.strerror or error}") from error
    return paths


class Look(NamedTuple):
    """Appearance of one run: color, marker, dash of lines and hatch of bars."""

    color: str
    marker: str
    dash: LineStyleType
    hatch: str


def looks(count: int) -> list[Look]:
    """Return the looks of a number of runs. They differ in color, marker and dash.

    Args:
        count: Number of runs.

    Raises:
        InputError: If there are more runs than a reader can distinguish.

    Example:
        >>> [look.marker for look in looks(3)]
        ['o', '^', 's']
    """
    if count > MOST:
        raise InputError(f"a figure can show at most {MOST} runs, got {count}; draw fewer of them")
    return [
        Look(PALETTE[place % len(PALETTE)], MARKERS[place], DASHES[place % len(DASHES)], HATCHES[place])
        for place in range(count)
    ]


def legend_columns(labels: Sequence[str]) -> int:
    """Return the number of columns that fit in a legend as wide as the figure, which is filled column by column.

    Args:
        labels: Labels of the legend.

    Example:
        >>> legend_columns(["ce", "balanced-softmax", "balms"]), legend_columns(["a rather long name of a run"] * 4)
        (3, 1)
    """
    for columns in range(len(labels), 1, -1):
        widths = [max(map(len, column), default=0) + 7 for column in np.array_split(np.array(labels), columns)]
        if sum(widths) <= LEGEND_CHARACTERS:
            return columns
    return 1


def legend_height(labels: Sequence[str]) -> float:
    """Return the height of that legend in inches."""
    return LEGEND_LINE * math.ceil(len(labels) / legend_columns(labels)) + 0.1


def run_legend(figure: Figure, labels: Sequence[str], *, markers: bool = False) -> None:
    """Draw a legend of the runs above all panels.

    Args:
        figure: Figure to draw on.
        labels: Labels of the runs.
        markers: Whether the lines have markers.
    """
    handles = [
        Line2D([], [], color=look.color, linestyle=look.dash, marker=look.marker if markers else "", ms=5, label=label)
        for label, look in zip(labels, looks(len(labels)), strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(labels), handlelength=2.6)


def panels_in_rows(figure: Figure, count: int, columns: int, *, share: bool = True) -> list[Axes]:
    """Arrange panels in rows. Surplus places stay empty.

    Args:
        figure: Figure to draw on.
        count: Number of panels.
        columns: Largest number of panels in a row.
        share: Whether all panels share their scales.
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
