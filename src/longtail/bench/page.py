"""Tables of a benchmark as one HTML page: find rows, and compare any two of them class by class."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from longtail.bench.formats import LEGEND, PUBLISHED, layout_of, published_layout
from longtail.bench.results import Row, read_about
from longtail.bench.table import Table
from longtail.evaluation import group_options, shot_groups
from longtail.report.html import render_page
from longtail.report.wording import clean


def page(tables: Sequence[Table], title: str, about: str = "") -> str:
    """Return the HTML of the tables. It needs no network, and every text in it is escaped.

    Args:
        tables: Tables of a plan.
        title: Title of the page.
        about: Sentence that describes the plan.
    """
    return render_page(
        "bench.html.j2",
        tables=tables,
        title=title,
        subtitle=about,
        warnings=(),
        grid=layout_of,
        published=published_layout,
        published_note=PUBLISHED,
        legend=f"{LEGEND[0].upper()}{LEGEND[1:]}",
        data=_script_data([_classes(table) for table in tables]),
    )


def _classes(table: Table) -> dict[str, Any]:
    """Return the classes of a table and the accuracy of each row on them, for the script of the page."""
    run = table.lines[0].row.first
    about = read_about(run.folder)
    masks = shot_groups(about.class_counts, **group_options(run.result["class_groups"]))
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
    """Return the accuracy on each class, averaged over the seeds; None without test images."""
    seeds_SC = np.array([run.result["test"]["per_class"] for run in row.runs.values()], dtype=float)
    return [None if np.isnan(value) else round(float(value), 2) for value in seeds_SC.mean(0)]


def _script_data(value: Any) -> Markup:
    """Return JSON that no text in it can break out of."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\N{LINE SEPARATOR}\N{PARAGRAPH SEPARATOR}":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
