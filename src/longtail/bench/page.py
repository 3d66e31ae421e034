"""The tables as one HTML page that works offline: find rows, and compare any two of them class by class.

Every text is escaped; the page's policy forbids any script but its own and any connection.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.bench.formats import (
    LEGEND,
    PUBLISHED,
    PUBLISHED_HEADINGS,
    best_places,
    cells,
    headings,
    published_cells,
)
from longtail.bench.results import Row, read_about
from longtail.bench.table import Line, Table
from longtail.evaluation import group_options, shot_groups
from longtail.report.document import asset, document
from longtail.report.markup import Html, clean, join, tag
from longtail.version import __version__


def page(tables: Sequence[Table], title: str, about: str = "") -> str:
    """The page as text.

    Args:
        tables: of a plan.
        title: of the page.
        about: a sentence on the plan.
    """
    links = [tag("a", table.title, href=f"#table-{index}") for index, table in enumerate(tables)]
    header = tag(
        "header",
        tag("p", "Bench of long-tailed classification", class_="kicker"),
        tag("h1", title),
        tag("p", about, class_="subtitle") if about else None,
        tag("nav", *links) if len(links) > 1 else None,
    )
    main = tag("main", *(_section(index, table) for index, table in enumerate(tables)))
    footer = tag("footer", f"{LEGEND[0].upper()}{LEGEND[1:]}. Written by longtail {__version__}.")
    data = tag("script", _data([_classes(table) for table in tables]), type="application/json", id="data")
    css = asset("page.css") + asset("page.css", "longtail.bench")
    script = asset("tables.js") + asset("page.js", "longtail.bench")
    return document(title, join([header, main, footer, data]), css, script)


def _section(index: int, table: Table) -> Html:
    facts = table.facts
    label = f", IF {facts['imbalance_factor']}" if facts["imbalance_factor"] else ""
    return tag(
        "section",
        tag("h2", f"{facts['data']}{label}"),
        tag(
            "div",
            tag("p", f"{table.title}. {facts['test']}. Split {facts['split']}. Scored: {facts['protocol']}."),
            tag("ul", *(tag("li", note) for note in table.notes), class_="notes") if table.notes else None,
            tag("div", _grid(index, table), class_="scroll"),
            tag("div", class_="compare"),
            _published(table) if table.published else None,
            class_="body",
        ),
        id=f"table-{index}",
    )


def _grid(index: int, table: Table) -> Html:
    names = headings(table)
    head = tag(
        "tr", *(tag("th", name, scope="col", class_="number" if place else None) for place, name in enumerate(names))
    )
    lines = [_line(place, table, line) for place, line in enumerate(table.lines)]
    return tag("table", tag("thead", head), tag("tbody", *lines), class_="bench", data_table=index)


def _line(index: int, table: Table, line: Line) -> Html:
    texts, best = cells(table, line), best_places(table, line)
    rest = [
        tag(
            "td",
            tag("strong", text) if place in best else text,
            class_="number",
            data_value=_sort_key(table, line, place),
        )
        for place, text in enumerate(texts)
        if place
    ]
    return tag("tr", tag("th", texts[0], scope="row"), *rest, data_row=index)


def _sort_key(table: Table, line: Line, place: int) -> str | None:
    """What the column is sorted by, where its text does not begin with it."""
    if table.reference is not None and place == len(headings(table)) - 2:
        return None if line.against is None else f"{line.against.mean:.4f}"
    return None


def _published(table: Table) -> Html:
    head = tag("tr", *(tag("th", name, scope="col") for name in PUBLISHED_HEADINGS))
    rows = []
    for found in table.published:
        first, *rest = published_cells(found)
        rows.append(tag("tr", tag("th", first, scope="row"), *(tag("td", text) for text in rest)))
    shown = tag("table", tag("thead", head), tag("tbody", *rows), class_="published")
    summary = tag("summary", f"Published figures beside ours ({len(rows)})")
    return tag("details", summary, tag("p", PUBLISHED), tag("div", shown, class_="scroll"))


def _classes(table: Table) -> dict[str, Any]:
    """What the page compares two rows by: the classes, and the accuracy of each row on each of them."""
    outcome = next(iter(table.lines[0].row.runs.values()))
    about = read_about(outcome.folder)
    masks = shot_groups(about.class_counts, **group_options(outcome.result["class_groups"]))
    of_class = [next(name for name, mask in masks.items() if mask[label]) for label in range(len(about.class_counts))]
    return {
        "names": [clean(name) for name in about.class_names],
        "counts": about.class_counts.tolist(),
        "groups": of_class,
        "tests": np.bincount(about.targets.numpy(), minlength=len(of_class)).tolist(),
        "rows": [{"name": clean(line.name), "accuracy": _per_class(line.row)} for line in table.lines],
        "reference": next((i for i, line in enumerate(table.lines) if line.name == table.reference), 0),
    }


def _per_class(row: Row) -> list[float | None]:
    """Accuracy on each class, mean over the seeds; None without a test image."""
    seeds_SC = np.array([outcome.result["test"]["per_class"] for outcome in row.runs.values()], dtype=float)
    return [None if np.isnan(value) else round(float(value), 2) for value in seeds_SC.mean(0)]


def _data(value: Any) -> Html:
    """JSON that no text in it can break out of."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return join([Html(text)])
