"""Tables of a bench as Markdown, LaTeX (booktabs) and CSV, and in the general form that a page shows."""

from collections.abc import Mapping, Sequence

from longtail.bench.table import Line, PublishedRow, Summary, Table, heading
from longtail.evaluation import Difference
from longtail.report import tables as layout
from longtail.report.tables import csv_text, latex_escape, one_line
from longtail.report.wording import DASH

FILES: Mapping[str, str] = {"md": "table.md", "tex": "table.tex", "csv": "table.csv", "html": "index.html"}
"""File of each format, in the folder of the plan."""
UNVERIFIED = " (not verified against the source)"
LEGEND = (
    "mean ± standard deviation over n seeds; 95 % interval of the mean by Student's t; difference with the 95 % "
    "interval of a paired bootstrap over seeds and test images, * if it excludes zero; bold: better than the next best "
    "by more than chance (same bootstrap; accuracies only)"
)
PUBLISHED = (
    "Published scores of the same methods. They come from other code, often with another network, schedule or choice "
    "of the epoch, so they are not comparable row by row. The distance is in standard deviations of the difference."
)
PUBLISHED_HEADINGS = (
    "method",
    "ours",
    "published",
    "distance",
    "source",
    "network",
    "training",
    "evaluated epoch",
    "known differences",
)


def markdown(tables: Sequence[Table], title: str, about: str = "") -> str:
    """Return all tables as a Markdown page.

    Args:
        tables: Tables of a plan.
        title: Title of the page.
        about: Description of the plan.
    """
    parts = [f"# {one_line(title)}", *([one_line(about)] if about else [])]
    for table in tables:
        parts += [f"## {one_line(table.title)}", one_line(_facts(table)), layout_of(table).to_markdown()]
        if table.notes:
            parts.append("\n".join(f"- {one_line(note)}" for note in table.notes))
        if table.published:
            parts += [PUBLISHED, published_layout(table).to_markdown()]
    return "\n\n".join([*parts, f"{_capitalized(LEGEND)}."]) + "\n"


def latex(tables: Sequence[Table], title: str) -> str:
    """Return all tables as LaTeX, which needs the package booktabs.

    Args:
        tables: Tables of a plan.
        title: Title in the first comment.
    """
    parts = [r"% \usepackage{booktabs}" + f" -- {one_line(title)}"]
    for table in tables:
        notes = "".join(f" {_capitalized(note)}." for note in table.notes)
        caption = latex_escape(f"{table.title}. {_facts(table)}{notes} {_capitalized(LEGEND)}.")
        body = layout_of(table).to_latex().replace("\n", "\n  ")
        lines = [r"\begin{table}", r"  \centering", rf"  \caption{{{caption}}}", f"  {body}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def csv_table(tables: Sequence[Table]) -> str:
    """Return all tables as one CSV with a row per table and method. Numbers are not rounded; unknown ones are empty.

    Args:
        tables: Tables of a plan.
    """
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    parts = ("mean", "sd", "low", "high")
    shared = ("data", "imbalance_factor", "backbone", "recipe", "protocol", "split")
    differences = ("difference", "difference_low", "difference_high", "difference_p")
    names = [f"{column}_{part}" for column in columns for part in parts]
    rows: list[list[object]] = []
    for table in tables:
        for line in table.lines:
            scores = [line.scores.get(column) for column in columns]
            found = line.against
            rows.append(
                [
                    *(table.facts[key] for key in shared),
                    line.name,
                    line.n,
                    *(None if score is None else getattr(score, part) for score in scores for part in parts),
                    " ".join(column for column in columns if column in line.best),
                    table.reference,
                    *((None,) * 4 if found is None else (found.mean, found.low, found.high, found.p)),
                    None if line.seconds is None else line.seconds.mean,
                    line.older,
                ]
            )
    header = [*shared, "method", "n", *names, "best_in", "reference", *differences, "seconds", "older_code"]
    return csv_text(header, rows)


def layout_of(table: Table) -> layout.Table:
    """Return a table in the general form, which converts to all formats.

    Args:
        table: Table of a plan.
    """
    scores = [heading(column) for column in table.columns]
    against = [] if table.reference is None else [f"all, less {table.reference}"]
    names = ["n", *scores[:1], f"95 % of {scores[0]}", *scores[1:], *against, "seconds"]
    columns = [layout.Column("method"), *(layout.Column(name, "right") for name in names)]
    return layout.Table(columns, [_row(table, line) for line in table.lines])


def _row(table: Table, line: Line) -> list[layout.Cell | str]:
    first, *rest = (
        layout.Cell(summary_text(line.scores[column]), bold=column in line.best) for column in table.columns
    )
    interval = interval_text(line.scores[table.columns[0]])
    key = "" if line.against is None else f"{line.against.mean:.4f}"  # the text does not start with a plain number
    against = [] if table.reference is None else [layout.Cell(difference_text(line.against), key=key)]
    seconds = DASH if line.seconds is None else f"{line.seconds.mean:,.1f}"
    return [f"{line.name}{' †' if line.older else ''}", str(line.n), first, interval, *rest, *against, seconds]


def published_layout(table: Table) -> layout.Table:
    """Return the published scores of a table in the general form.

    Args:
        table: Table of a plan.
    """
    return layout.Table(PUBLISHED_HEADINGS, [_published_row(found) for found in table.published])


def _published_row(found: PublishedRow) -> list[str]:
    row = found.published
    return [
        found.name,
        summary_text(found.ours),
        f"{row.scores['top1']:.1f}",
        DASH if found.distance is None else f"{found.distance:+.1f} sd",
        f"{row.source}, {row.place}{UNVERIFIED if row.read in ('aggregator', 'memory') else ''}",
        row.backbone,
        row.training,
        row.checkpoint,
        row.mismatch,
    ]


def summary_text(summary: Summary | None) -> str:
    """Format a score as mean and standard deviation; None as a dash.

    Args:
        summary: Score over seeds, or None.

    Example:
        >>> summary_text(Summary(51.26, 0.44, 3, 50.2, 52.4)), summary_text(None) == DASH
        ('51.3 ± 0.4', True)
    """
    if summary is None:
        return DASH
    return f"{summary.mean:.1f}" + ("" if summary.sd is None else f" ± {summary.sd:.1f}")


def interval_text(summary: Summary | None) -> str:
    """Format the interval of a mean; a dash for a single seed."""
    return DASH if summary is None or summary.low is None else f"{summary.low:.1f} to {summary.high:.1f}"


def difference_text(found: Difference | None) -> str:
    """Format a difference, with a star if it is beyond chance; None as a dash.

    Args:
        found: Difference of two methods, or None.

    Example:
        >>> difference_text(Difference(2.04, 0.51, 3.5, 0.01))
        '+2.0 [+0.5, +3.5]*'
    """
    if found is None:
        return DASH
    return f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}]{'*' if found.significant else ''}"


def _facts(table: Table) -> str:
    facts = table.facts
    return f"{facts['test']}. Split {facts['split']}. Evaluated: {facts['protocol']}."


def _capitalized(text: str) -> str:
    return text[0].upper() + text[1:]
