"""A comparison in the terminal: a table of the contenders, and the classes that changed most."""

from rich import box
from rich.table import Table
from rich.text import Text

from longtail.report.comparison.pair import Pair
from longtail.report.comparison.together import Comparison
from longtail.report.comparison.wording import points
from longtail.report.wording import DASH, number

CLASSES_SHOWN = 5
_COLUMNS = {"top1": "all", "balanced": "balanced", "many": "many", "medium": "medium", "few": "few"}


def overview_table(comparison: Comparison) -> Table:
    """Accuracies in percent, and the differences to the reference in points; a star marks what is more than chance."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for heading in (*_COLUMNS.values(), "better", "worse"):
        table.add_column(heading, justify="right", no_wrap=True)
    scores = comparison.reference.scores
    table.add_row(Text(comparison.reference.label), *(number(getattr(scores, name)) for name in _COLUMNS), "", "")
    for pair in comparison.pairs:
        counts = [f"{count:,}" for count in pair.counted()]
        table.add_row(Text(pair.other.label), *(_cell(pair, name) for name in _COLUMNS), *counts)
    table.caption, table.caption_justify = (
        "* more than the choice of test images explains; better, worse: classes",
        "right",
    )
    return table


def _cell(pair: Pair, name: str) -> str:
    found = pair.by_score.get(name)
    if found is None:
        return DASH
    star = "*" if found.significant else " "
    return f"{number(getattr(pair.other.scores, name))} ({points(found.mean)}){star}"


def changes_table(pair: Pair) -> Table:
    """The largest gains and losses: both accuracies, and what the class is now less and more often taken for."""
    title = f"{pair.other.label} against {pair.reference.label}: largest gains and losses (* more than chance)"
    table = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left")
    for heading in ("class", "training images", "before", "after", "change"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    table.add_column("taken for, in images")
    for best in (True, False):
        for label in pair.ranked(best=best)[:CLASSES_SHOWN]:
            table.add_row(*_change(pair, label))
    return table


def _change(pair: Pair, label: int) -> list[Text]:
    names = pair.classes.names
    sides = (pair.reference.scores.per_class[label], pair.other.scores.per_class[label])
    shifts = (f"{names[each.taken_for]} {points(each.change, 0)}" for each in pair.shifts_by_class.get(label, ()))
    star = "*" if pair.certainty[label] == "clear" else " "
    cells = (
        names[label],
        f"{int(pair.classes.counts[label]):,}",
        *(number(side) for side in sides),
        points(pair.gains[label]) + star,
        ", ".join(shifts),
    )
    return [Text(cell) for cell in cells]
