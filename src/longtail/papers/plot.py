"""A figure before it is drawn: the numbers behind it, and how they go onto the page.

The numbers come first, so that they can be tested, printed and written beside the figure.
"""

import csv
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from longtail._io import atomic_write, write_text
from longtail.errors import InputError
from longtail.report.style import drawing, to_svg

DOTS_PER_INCH = 300  # what journals ask of a pixel image
NOTE_CHARACTERS = 84  # of a line as wide as the figure
Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure.

    Args:
        columns: names.
        rows: one cell per column; None is left empty in the file.

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
        """CSV with a header, numbers with six digits."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_written(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def column(self, name: str) -> list[Cell]:
        """The cells of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]


def _written(cell: Cell) -> str:
    if cell is None or cell != cell:  # NaN: there is nothing to measure
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class Plot:
    """What a figure shows.

    Args:
        table: the numbers behind it.
        draw: puts them on an empty figure of the shared style.
        height: of the figure, in inches; all are equally wide.
        note: what every reader must know, written below the figure.
        summary: lines for the terminal.
    """

    table: Table
    draw: Callable[[Figure], None]
    height: float
    note: str = ""
    summary: tuple[str, ...] = ()


def write_plot(plot: Plot, name: str, folder: Path) -> list[Path]:
    """Write NAME.svg, NAME.pdf, NAME.png and NAME.csv, each whole or not at all.

    Args:
        plot: what to draw.
        name: of the files.
        folder: made if it is not there.

    Returns:
        The four paths.

    Raises:
        InputError: if the folder can not be written.

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
            with atomic_write(paths[1]) as file, mpl.rc_context({"pdf.fonttype": 42}):  # TrueType, as journals ask
                figure.savefig(file, format="pdf", metadata={"CreationDate": None})
            with atomic_write(paths[2]) as file:
                figure.savefig(file, format="png", dpi=DOTS_PER_INCH, facecolor="white")
        write_text(paths[3], plot.table.to_csv())
    except OSError as error:
        raise InputError(f"can not write the figure into {folder}: {error.strerror or error}") from error
    return paths
