"""Every class of a pair in one table, complete without a script; with one, it can be sorted and searched."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from longtail._io import write_text
from longtail.errors import InputError
from longtail.report.comparison.contenders import Contender
from longtail.report.comparison.pair import Pair
from longtail.report.comparison.together import Comparison
from longtail.report.comparison.wording import points
from longtail.report.markup import Html, join, tag
from longtail.report.wording import DASH, number

OPEN_ROWS = 200  # a longer table waits closed
_CSV = (
    "reference", "run", "class", "group", "training_images", "test_images", "accuracy_reference", "accuracy",
    "difference", "p", "certainty", "taken_for_reference", "taken_for",
)  # fmt: skip


def class_table(pair: Pair, test_counts: list[int], key: str, limit: int) -> Html:
    """Counts, both accuracies, their difference, and what each takes the class for.

    Args:
        pair: what is compared.
        test_counts: test images of each class.
        key: of the table in the page.
        limit: rows at most; the classes that changed most are kept.
    """
    labels = pair.classes.order.tolist()
    caption = "Every class, from the most training images to the fewest."
    if len(labels) > limit:
        kept = set(_most_changed(pair, limit))
        labels = [label for label in labels if label in kept]
        caption = f"The {limit:,} classes of {len(pair.classes):,} that changed most; --table writes all to a CSV file."
    head = tag("tr", *(_heading(*column) for column in _columns(pair)))
    rows = (_row(pair, test_counts, label) for label in labels)
    parts = (tag("caption", caption), tag("thead", head), tag("tbody", *rows))
    table = tag("table", *parts, class_="compared", id=key)
    body = tag("div", table, class_="scroll tall", tabindex="0", role="region", aria_label="Every class")
    if len(labels) > OPEN_ROWS:
        body = tag("details", tag("summary", f"Show {len(labels):,} classes"), body)
    return body


def _most_changed(pair: Pair, limit: int) -> list[int]:
    return sorted(range(len(pair.classes)), key=lambda label: -abs(pair.gains[label] or 0.0))[:limit]


def _columns(pair: Pair) -> Iterator[tuple[str, bool, str | None]]:
    """Heading, whether it holds numbers, what it means."""
    reference, other = pair.reference.label, pair.other.label
    yield "class", False, None
    yield "training images", True, None
    yield "test images", True, None
    yield f"{reference} (%)", True, "accuracy"
    yield f"{other} (%)", True, "accuracy"
    yield "difference", True, "points"
    yield "p", True, "how often chance alone would change a class as much, were both equally good on it"
    yield "more than chance?", False, "clear: among all classes at once; likely: by itself"
    yield f"{reference} takes it for", False, "the most frequent mistake, and its images"
    yield f"{other} takes it for", False, "the most frequent mistake, and its images"
    yield "less and more often for", False, "the mistakes that changed most, in images"


def _heading(title: str, numeric: bool, meaning: str | None) -> Html:
    return tag("th", title, scope="col", class_="number" if numeric else None, title=meaning)


def _row(pair: Pair, test_counts: list[int], label: int) -> Html:
    classes, gain, certainty = pair.classes, pair.gains[label], pair.certainty[label]
    change = "gain" if (gain or 0) > 0 else "loss" if (gain or 0) < 0 else None
    shifts = [
        join([tag("bdi", classes.names[shift.taken_for]), f" {points(shift.change, 0)}"])
        for shift in pair.shifts_by_class.get(label, ())
    ]
    return tag(
        "tr",
        tag("th", tag("bdi", classes.names[label]), scope="row", class_=classes.group_names[label]),
        tag("td", f"{int(classes.counts[label]):,}"),
        tag("td", f"{test_counts[label]:,}"),
        tag("td", number(pair.reference.scores.per_class[label])),
        tag("td", number(pair.other.scores.per_class[label])),
        tag("td", points(gain), class_=change, style=f"--share:{abs(gain) / 100:.3f}" if gain else None),
        tag("td", DASH if gain is None else _p(float(pair.p_values[label]))),
        tag("td", certainty if gain else DASH),
        *(tag("td", _taken_for(pair, side, label)) for side in (pair.reference, pair.other)),
        tag("td", join(shifts, ", ") if shifts else DASH),
        class_=" ".join(filter(None, (change, certainty if gain else None))) or None,
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-4 else "<0.0001"


def _taken_for(pair: Pair, side: Contender, label: int) -> Html:
    main = side.main_mixups.get(label)
    return join([tag("bdi", pair.classes.names[main.taken_for]), f" {main.images:,}"]) if main else join([DASH])


def write_table(comparison: Comparison, target: Path) -> Path:
    """Write every class of every pair to a CSV file, whole or not at all.

    Raises:
        InputError: if it cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_CSV)
    for pair in comparison.pairs:
        lines.writerows(_csv_rows(pair, comparison.test_counts))
    try:
        write_text(target, text.getvalue())
    except OSError as error:
        raise InputError(f"cannot write the table to {target}: {error.strerror or error}") from error
    return target


def _csv_rows(pair: Pair, test_counts: list[int]) -> Iterator[list[object]]:
    names = pair.classes.names
    for label in pair.classes.order.tolist():
        mistakes = [side.main_mixups.get(label) for side in (pair.reference, pair.other)]
        yield [
            pair.reference.label,
            pair.other.label,
            names[label],
            pair.classes.group_names[label],
            int(pair.classes.counts[label]),
            test_counts[label],
            pair.reference.scores.per_class[label],
            pair.other.scores.per_class[label],
            pair.gains[label],
            None if pair.gains[label] is None else float(pair.p_values[label]),
            pair.certainty[label] if pair.gains[label] else None,
            *(names[main.taken_for] if main else None for main in mistakes),
        ]
