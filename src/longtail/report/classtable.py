"""Every class in one table, complete without a script; with one, it can be sorted and searched."""

from longtail.report.content import Content
from longtail.report.markup import Html, tag
from longtail.report.mistakes import precision
from longtail.report.sections import section
from longtail.report.wording import DASH, number

OPEN_ROWS = 200  # a longer table waits closed, and stays out of print unless opened

# heading, whether it holds numbers, what it means
_COLUMNS = (
    ("class", False, None),
    ("group", False, None),
    ("training images", True, None),
    ("test images", True, None),
    ("accuracy (%)", True, "of the test images of the class, those recognised"),
    ("precision (%)", True, "of the images taken for the class, those that show it"),
    ("mostly taken for", False, None),
    ("images", True, "test images of the class taken for that one"),
)


def class_table_section(content: Content) -> Html:
    """Counts, accuracy, precision and main mistake of each class, the fullest first."""
    predictions, num_classes = content.predictions, len(content.classes)
    precisions = precision(predictions.predicted, predictions.targets, num_classes)
    rows = (_row(content, label, precisions[label]) for label in content.classes.order.tolist())
    head = tag("tr", *(_heading(*column) for column in _COLUMNS))
    caption = tag("caption", "Every class, from the most training images to the fewest.")
    table = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_="every", id="every-class")
    body = tag("div", table, class_="scroll tall", tabindex="0", role="region", aria_label="Every class")
    if num_classes > OPEN_ROWS:
        body = tag("details", tag("summary", f"Show all {num_classes:,} classes"), body)
    return section("every", "Every class", body)


def _heading(title: str, numeric: bool, meaning: str | None) -> Html:
    return tag("th", title, scope="col", class_="number" if numeric else None, title=meaning)


def _row(content: Content, label: int, right_claims: float | None) -> Html:
    classes, group = content.classes, content.classes.group_names[label]
    accuracy, main = content.scores.per_class[label], content.main_mixups.get(label)
    bar = None if accuracy is None else f"--share:{accuracy / 100:.3f}"
    return tag(
        "tr",
        tag("th", tag("bdi", classes.names[label]), scope="row"),
        tag("td", group, class_=group),
        tag("td", f"{int(classes.counts[label]):,}"),
        tag("td", f"{content.test_counts[label]:,}"),
        tag("td", number(accuracy), style=bar),
        tag("td", number(right_claims)),
        tag("td", tag("bdi", classes.names[main.taken_for]) if main else DASH),
        tag("td", f"{main.images:,}" if main else DASH),
    )
