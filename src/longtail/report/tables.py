"""Tables for the terminal, Markdown, LaTeX, CSV and HTML, all from one description."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from markupsafe import Markup
from rich import box
from rich.table import Table as RichTable
from rich.text import Text
from tabulate import tabulate

from longtail.evaluation import Scores
from longtail.report.classes import Classes
from longtail.report.wording import DASH, number

_LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"$^\dagger$",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    DASH: "--",
}


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        heading: Heading of the column.
        align: Alignment of the cells; "right" for numbers.
        meaning: Explanation that a page shows while the pointer rests on the heading.
        names: Whether the cells are names of classes or runs, whose writing direction a page isolates.
    """

    heading: str
    align: Literal["left", "right"] = "left"
    meaning: str = ""
    names: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell of a table. A cell without marks may be a plain string.

    Args:
        text: Text of the cell.
        bold: Whether the text is bold.
        star: Whether a star follows the text.
        kind: CSS class on a page.
        share: Length of a bar behind the text on a page, in [0, 1]; None draws no bar.
        html: Markup that replaces the text on a page.
        key: Value by which a page sorts the column, if not by the number at the start of the text.
    """

    text: str
    bold: bool = False
    star: bool = False
    kind: str = ""
    share: float | None = None
    html: Markup | None = None
    key: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table. A row without a class may be a plain sequence of cells.

    Args:
        cells: One cell per column.
        kind: CSS class on a page.
    """

    cells: Sequence[Cell | str]
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """Rows and columns of text, with one method for each output format. `rich` prints it without conversion.

    Args:
        columns: Columns; a plain string is a left-aligned column. The first column heads the rows.
        rows: One cell per column in each row.
        title: Title above the table; the caption on a page.
        notes: Footnotes, one per line.

    Example:
        >>> table = Table(["method", Column("all", "right")], [["ce", "70.0"], ["b & c", Cell("71.5", bold=True)]])
        >>> print(table.to_markdown())
        | method   |      all |
        |:---------|---------:|
        | ce       |     70.0 |
        | b & c    | **71.5** |
        >>> print(table.to_csv())
        method,all
        ce,70.0
        b & c,71.5
        <BLANKLINE>
    """

    columns: Sequence[Column | str]
    rows: Sequence[Row | Sequence[Cell | str]]
    title: str = ""
    notes: Sequence[str] = ()

    @cached_property
    def heads(self) -> list[Column]:
        """All columns as `Column`."""
        return [Column(column) if isinstance(column, str) else column for column in self.columns]

    @cached_property
    def lines(self) -> list[tuple[str, list[Cell]]]:
        """CSS class and cells of each row, all cells as `Cell`."""
        rows = [row if isinstance(row, Row) else Row(row) for row in self.rows]
        return [(row.kind, [Cell(cell) if isinstance(cell, str) else cell for cell in row.cells]) for row in rows]

    def __rich__(self) -> RichTable:
        return self.to_terminal()

    def to_terminal(self) -> RichTable:
        """Convert to a table for `rich.print`."""
        shown = RichTable(box=box.SIMPLE_HEAD, title=Text(self.title) if self.title else None, title_justify="left")
        for column in self.heads:
            shown.add_column(
                Text(column.heading), justify=column.align, no_wrap=column.align == "right", overflow="fold"
            )
        starred = [any(cells[place].star for _, cells in self.lines) for place in range(len(self.heads))]
        for _, cells in self.lines:
            # the space of a star keeps the digits of a column aligned
            ends = ["*" if cell.star else " " if padded else "" for cell, padded in zip(cells, starred, strict=True)]
            shown.add_row(
                *(Text(c.text + end, style="bold" if c.bold else "") for c, end in zip(cells, ends, strict=True))
            )
        if self.notes:
            shown.caption, shown.caption_justify = Text("\n".join(self.notes)), "left"
        return shown

    def to_markdown(self) -> str:
        """Convert to a Markdown table without title and footnotes."""
        rows = [[_markdown_cell(cell) for cell in cells] for _, cells in self.lines]
        heads = [_markdown_text(column.heading) for column in self.heads]
        align = [column.align for column in self.heads]
        return str(tabulate(rows, heads, "pipe", disable_numparse=True, colalign=align))

    def to_latex(self) -> str:
        r"""Convert to a LaTeX `tabular` with the rules of the package booktabs, without title and footnotes.

        Example:
            >>> print(Table(["method", Column("all", "right")], [["b & c", Cell("71.5", bold=True)]]).to_latex())
            \begin{tabular}{lr}
              \toprule
              method & all \\
              \midrule
              b \& c & \textbf{71.5} \\
              \bottomrule
            \end{tabular}
        """
        lines = [[latex_escape(column.heading) for column in self.heads]]
        lines += [[_latex_cell(cell) for cell in cells] for _, cells in self.lines]
        head, *body = ("  " + " & ".join(line) + r" \\" for line in lines)
        align = "".join(column.align[0] for column in self.heads)
        start = [rf"\begin{{tabular}}{{{align}}}", r"  \toprule", head, r"  \midrule"]
        return "\n".join([*start, *body, r"  \bottomrule", r"\end{tabular}"])

    def to_csv(self) -> str:
        """Convert to CSV with a header, without marks."""
        rows = ([cell.text for cell in cells] for _, cells in self.lines)
        return csv_text([column.heading for column in self.heads], rows)

    def to_html(self, kind: str = "", **attributes: str) -> Markup:
        """Convert to an HTML table.

        Args:
            kind: CSS classes of the table.
            attributes: Further attributes of the table; "_" in a name becomes "-".
        """
        from longtail.report.html import render  # which imports the templates

        names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return render("table.html.j2", table=self, kind=kind, attributes=names)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    r"""Write CSV with a header; None is left empty.

    Example:
        >>> csv_text(["run", "few"], [("a, b", 1.5), ("c", None)])
        'run,few\n"a, b",1.5\nc,\n'
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(header)
    lines.writerows(rows)
    return text.getvalue()


def latex_escape(text: str) -> str:
    r"""Escape text so that LaTeX prints it unchanged.

    Example:
        >>> latex_escape("50 % of a_b & c")
        '50 \\% of a\\_b \\& c'
    """
    return "".join(_LATEX.get(character, character) for character in one_line(text))


def one_line(text: str) -> str:
    """Replace line breaks and other control characters, which would break a table."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


def _latex_cell(cell: Cell) -> str:
    text = latex_escape(cell.text) + ("$^*$" if cell.star else "")
    return rf"\textbf{{{text}}}" if cell.bold else text


def _markdown_text(text: str) -> str:
    return one_line(text).replace("|", "\\|")


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text) + ("*" if cell.star else "")
    return f"**{text}**" if cell.bold else text


# field of Scores, heading, digits
_SCORES = (
    ("top1", "all", 1),
    ("top5", "top 5", 1),
    ("balanced", "balanced", 1),
    ("many", "many", 1),
    ("medium", "medium", 1),
    ("few", "few", 1),
    ("mcc", "MCC", 1),
    ("ece", "ECE", 2),
)
_LOWER_IS_BETTER = frozenset({"ece"})
_MANY_CLASSES = 20  # with fewer, nearly every top-5 accuracy is close to 100 %


def scores_table(rows: Mapping[str, Scores | Mapping[str, Any]]) -> Table:
    """List results in percent. With two or more rows, mark the best value of each column in which they differ.

    Args:
        rows: Scores by the name to show: `Scores`, or the "test" mapping of a `result.json`. A value that is None or
            missing is shown as a dash. Top-5 accuracy is shown for 20 classes or more.

    Example:
        >>> from rich.console import Console
        >>> ce = {"top1": 70, "balanced": 50, "many": 90, "medium": 50, "few": 10, "mcc": 52, "ece": 9.5}
        >>> bs = {"top1": 69, "balanced": 63, "many": 80, "medium": 60, "few": 49, "mcc": 61, "ece": 4.25}
        >>> Console(width=90).print(scores_table({"ce": ce, "balanced-softmax": bs}))
        <BLANKLINE>
                               all   balanced    many   medium     few     MCC     ECE
         ──────────────────────────────────────────────────────────────────────────────
          ce                 70.0*       50.0   90.0*     50.0    10.0    52.0    9.50
          balanced-softmax    69.0      63.0*    80.0    60.0*   49.0*   61.0*   4.25*
        <BLANKLINE>
         * best of its column
    """
    top5 = any(_value(scores, "top5") is not None and _classes(scores) >= _MANY_CLASSES for scores in rows.values())
    shown = [each for each in _SCORES if each[0] != "top5" or top5]
    columns = [
        _score_cells([_value(scores, key) for scores in rows.values()], digits, key in _LOWER_IS_BETTER)
        for key, _, digits in shown
    ]
    starred = any(cell.star for cells in columns for cell in cells)
    heads = [Column(""), *(Column(heading, "right") for _, heading, _ in shown)]
    body = [[Cell(name), *(cells[index] for cells in columns)] for index, name in enumerate(rows)]
    return Table(heads, body, notes=("* best of its column",) if starred else ())


def groups_table(classes: Classes) -> Table:
    """List the shot groups of a data set: limits, classes and training images.

    Args:
        classes: Classes in groups.

    Example:
        >>> import torch
        >>> from rich.console import Console
        >>> classes = Classes.grouped(("cat", "dog", "eel"), torch.tensor([5, 300, 400]))
        >>> Console(width=90).print(groups_table(classes))
        <BLANKLINE>
          group    images per class                classes   images   share (%)
         ───────────────────────────────────────────────────────────────────────
          many     more than 100 training images         2      700        99.3
          medium   20 to 100 training images             0        0         0.0
          few      fewer than 20 training images         1        5         0.7
        <BLANKLINE>
    """
    total = int(classes.counts.sum())
    rows = []
    for name, mask_C in classes.masks.items():
        images = int(classes.counts[mask_C].sum())
        numbers = f"{int(mask_C.sum()):,}", f"{images:,}", f"{100 * images / total:.1f}"
        rows.append([name, classes.limits[name], *numbers])
    numeric = [Column(heading, "right") for heading in ("classes", "images", "share (%)")]
    return Table(["group", "images per class", *numeric], rows)


def _classes(scores: Scores | Mapping[str, Any]) -> int:
    return len(scores.get("per_class") or () if isinstance(scores, Mapping) else scores.per_class)


def _value(scores: Scores | Mapping[str, Any], key: str) -> float | None:
    value = scores.get(key) if isinstance(scores, Mapping) else getattr(scores, key)
    return None if value is None else float(value)


def _score_cells(values: Sequence[float | None], digits: int, lower_is_better: bool) -> list[Cell]:
    """Format one column. Every value that reads like the best is marked; nothing is if all values read alike."""
    texts = [number(value, digits) for value in values]
    known = [value for value in values if value is not None]
    if len({number(value, digits) for value in known}) < 2:
        return [Cell(text) for text in texts]
    best = number((min if lower_is_better else max)(known), digits)
    # a star too, as bold is lost in a file
    return [Cell(text, bold=text == best, star=text == best) for text in texts]
