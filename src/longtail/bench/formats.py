"""A table as Markdown, LaTeX (booktabs) and CSV."""

import csv
import io
import re
from collections.abc import Mapping, Sequence

from longtail.bench.table import Line, PublishedRow, Summary, Table, heading
from longtail.evaluation import Difference
from longtail.report.wording import DASH

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "†": r"$^\dagger$",
    "±": r"$\pm$",
    DASH: "--",
}
UNCHECKED = " (not checked against the source)"
LEGEND = (
    "mean ± standard deviation over n seeds; 95 % interval of the mean by Student's t; the difference with the 95 % "
    "interval of a paired bootstrap over seeds and test images, * where it excludes zero; bold: significantly better "
    "than the next best (same bootstrap; accuracies only)"
)


PUBLISHED = (
    "Published results of the same methods. They come from other code, often with another network, schedule or choice "
    "of the epoch, so they are listed separately. The distance is in standard deviations of the difference."
)
PUBLISHED_HEADINGS = (
    "method",
    "ours",
    "published",
    "distance",
    "source",
    "net",
    "training",
    "epoch scored",
    "why ours may differ",
)


def headings(table: Table) -> list[str]:
    """Return the headings, from the method to the seconds."""
    scores = [heading(column) for column in table.columns]
    against = [] if table.reference is None else [f"all, less {table.reference}"]
    return ["method", "n", *scores[:1], f"95 % of {scores[0]}", *scores[1:], *against, "seconds"]


def cells(table: Table, line: Line) -> list[str]:
    """Return the texts of a line, without marks of the best."""
    summaries = [line.scores[column] for column in table.columns]
    against = [] if table.reference is None else [difference_text(line.against)]
    return [
        f"{line.name}{' †' if line.older else ''}",
        str(line.n),
        summary_text(summaries[0]),
        interval_text(summaries[0]),
        *(summary_text(summary) for summary in summaries[1:]),
        *against,
        DASH if line.seconds is None else f"{line.seconds.mean:,.1f}",
    ]


def best_places(table: Table, line: Line) -> set[int]:
    """Return the positions of the texts of a line that are marked as the best of their column."""
    places = [2, *range(4, 3 + len(table.columns))]
    return {place for place, column in zip(places, table.columns, strict=True) if column in line.best}


def summary_text(summary: Summary | None) -> str:
    """Return a score as text.

    Example:
        >>> summary_text(Summary(51.26, 0.44, 3, 50.2, 52.4)), summary_text(None) == DASH
        ('51.3 ± 0.4', True)
    """
    if summary is None:
        return DASH
    return f"{summary.mean:.1f}" + ("" if summary.sd is None else f" ± {summary.sd:.1f}")


def interval_text(summary: Summary | None) -> str:
    """Return the interval of a mean as text; a dash for a single seed."""
    return DASH if summary is None or summary.low is None else f"{summary.low:.1f} to {summary.high:.1f}"


def difference_text(found: Difference | None) -> str:
    """Return a difference as text, with a star where it is significant.

    Example:
        >>> difference_text(Difference(2.04, 0.51, 3.5, 0.01))
        '+2.0 [+0.5, +3.5]*'
    """
    if found is None:
        return DASH
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]{'*' if found.significant else ''}"


def published_cells(found: PublishedRow) -> list[str]:
    """Return the texts of a published result, under `PUBLISHED_HEADINGS`."""
    row = found.published
    return [
        found.name,
        summary_text(found.ours),
        f"{row.scores['top1']:.1f}",
        DASH if found.distance is None else f"{found.distance:+.1f} sd",
        f"{row.source}, {row.place}{UNCHECKED if row.read in ('aggregator', 'memory') else ''}",
        row.backbone,
        row.training,
        row.checkpoint,
        row.mismatch,
    ]


def markdown(tables: Sequence[Table], title: str, about: str = "") -> str:
    """Return all tables as a Markdown page with padded columns, readable as plain text."""
    parts = [f"# {_one_line(title)}", *([_one_line(about)] if about else [])]
    for table in tables:
        lines = [_marked(cells(table, line), best_places(table, line), "**{}**") for line in table.lines]
        facts = _one_line(_about(table))
        parts += [f"## {_one_line(table.title)}", facts, _grid([headings(table), *lines])]
        parts += ["\n".join(f"- {_one_line(note)}" for note in table.notes)] if table.notes else []
        parts += (
            [PUBLISHED, _grid([PUBLISHED_HEADINGS, *map(published_cells, table.published)])] if table.published else []
        )
    return "\n\n".join([*parts, f"{LEGEND[0].upper()}{LEGEND[1:]}."]) + "\n"


def latex(tables: Sequence[Table], title: str) -> str:
    """All tables for a paper; needs the package booktabs."""
    parts = [r"% \usepackage{booktabs}" + f" -- {_one_line(title)}"]
    for table in tables:
        lines = [
            _marked([latex_escape(text) for text in cells(table, line)], best_places(table, line), r"\textbf{{{}}}")
            for line in table.lines
        ]
        notes = "".join(f" {latex_escape(note[0].upper() + note[1:])}." for note in table.notes)
        facts = latex_escape(f"{table.title}. {_about(table)}")
        names = [latex_escape(text) for text in headings(table)]
        rows = [" & ".join(row) + r" \\" for row in (names, *lines)]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    r"  \centering",
                    rf"  \caption{{{facts}{notes} {latex_escape(LEGEND[0].upper() + LEGEND[1:])}.}}",
                    rf"  \begin{{tabular}}{{l{'r' * (len(names) - 1)}}}",
                    r"    \toprule",
                    f"    {rows[0]}",
                    r"    \midrule",
                    *(f"    {row}" for row in rows[1:]),
                    r"    \bottomrule",
                    r"  \end{tabular}",
                    r"\end{table}",
                ]
            )
        )
    return "\n\n".join(parts) + "\n"


def _about(table: Table) -> str:
    facts = table.facts
    return f"{facts['test']}. Split {facts['split']}. Scored: {facts['protocol']}."


def latex_escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    Example:
        >>> latex_escape("50 % of a_b & c")
        '50 \\% of a\\_b \\& c'
    """
    return "".join(LATEX.get(character, character) for character in _one_line(text))


def csv_table(tables: Sequence[Table]) -> str:
    """All tables as one CSV with a line per table and method, numbers unrounded; nothing stands for unknown."""
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    parts = ("mean", "sd", "low", "high")
    shared = ["data", "imbalance_factor", "backbone", "recipe", "protocol", "split"]
    differences = ["difference", "difference_low", "difference_high", "difference_p"]
    names = [f"{column}_{part}" for column in columns for part in parts]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*shared, "method", "n", *names, "best_in", "reference", *differences, "seconds", "older_code"])
    for table in tables:
        for line in table.lines:
            scores = [line.scores.get(column) for column in columns]
            found = line.against
            values = [None if score is None else getattr(score, part) for score in scores for part in parts]
            lines.writerow(
                [
                    *(table.facts[key] for key in shared),
                    line.name,
                    line.n,
                    *values,
                    " ".join(column for column in columns if column in line.best),
                    table.reference,
                    *((None,) * 4 if found is None else (found.mean, found.low, found.high, found.p)),
                    None if line.seconds is None else line.seconds.mean,
                    line.older,
                ]
            )
    return text.getvalue()


def _marked(texts: Sequence[str], places: set[int], mark: str) -> list[str]:
    return [mark.format(text) if place in places else text for place, text in enumerate(texts)]


def _grid(rows: Sequence[Sequence[str]]) -> str:
    safe = [[_one_line(text).replace("|", "\\|") for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)]

    def written(row: Sequence[str]) -> str:
        return "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"

    return "\n".join(
        [written(safe[0]), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(written, safe[1:])]
    )


def _one_line(text: str) -> str:
    """Text without line breaks and other control characters, which would break a table."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)


FILES: Mapping[str, str] = {"md": "table.md", "tex": "table.tex", "csv": "table.csv", "html": "index.html"}
"""Where each format goes, in the folder of the bench."""
