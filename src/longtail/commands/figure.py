"""Draw a figure of the source papers, or list them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from longtail.commands.output import out
from longtail.errors import InputError
from longtail.papers import FIGURES, draw, write_plot


def figure(
    *,
    name: str | None,
    runs: Sequence[Path],
    labels: Sequence[str] | None,
    options: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write NAME.svg, .pdf, .png and .csv, and print what the figure says; without a name, list the figures.

    Args:
        name: of the figure.
        runs: folders of finished runs.
        labels: what to call the runs; None takes their methods.
        options: of the figure.
        folder: where the files go.

    Raises:
        InputError: for what `longtail.papers.draw` refuses, or a folder that can not be written.
    """
    if name is None:
        return _list()
    if labels is not None and not FIGURES.get(name, FIGURES["group-bars"]).most:
        raise InputError(f"{name} takes no runs, and so no --labels")
    plot = draw(name, runs, options, labels)
    paths = write_plot(plot, name, folder)
    for line in (*plot.summary, plot.note):
        if line:
            out.print(line, markup=False)
    first, *others = paths
    out.print(f"wrote {first} and {', '.join(path.suffix for path in others)}", markup=False)
    return None


def _list() -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("figure", "what it shows", "drawn from"):
        table.add_column(column)
    for name, kind in FIGURES.items():
        table.add_row(name, escape(kind.about), escape(kind.needs))
    out.print(table)
