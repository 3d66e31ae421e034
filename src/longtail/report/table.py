"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from longtail.evaluation import Scores
from longtail.report.classes import Classes
from longtail.report.wording import number

# field of Scores, heading, digits
_COLUMNS = (
    ("top1", "all", 1),
    ("balanced", "balanced", 1),
    ("many", "many", 1),
    ("medium", "medium", 1),
    ("few", "few", 1),
    ("mcc", "MCC", 1),
    ("ece", "ECE", 2),
)
_LOWER_IS_BETTER = frozenset({"ece"})


def scores_table(rows: Mapping[str, Scores | Mapping[str, Any]]) -> Table:
    """Results side by side, in percent; with two or more, the best of each column that differs is marked.

    Args:
        rows: by the name to show (the method; with recipe and backbone, where they differ): `Scores`, or the
            "test" mapping of a `result.json`. What is None or missing is shown as a dash.

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
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    columns = []
    for key, heading, digits in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
        columns.append(_column([_value(scores, key) for scores in rows.values()], digits, key in _LOWER_IS_BETTER))
    for index, name in enumerate(rows):
        table.add_row(Text(name), *(column[index] for column in columns))
    if any("*" in cell.plain for column in columns for cell in column):
        table.caption, table.caption_justify = "* best of its column", "right"
    return table


def groups_table(classes: Classes) -> Table:
    """The shot groups of a data set: their limits, classes and training images.

    Args:
        classes: grouped by their training images.

    Example:
        >>> import torch
        >>> from rich.console import Console
        >>> classes = Classes.grouped(("cat", "dog", "eel"), torch.tensor([5, 300, 400]))
        >>> Console(width=90).print(groups_table(classes))
        <BLANKLINE>
          group    a class has                     classes   images   share (%)
         ───────────────────────────────────────────────────────────────────────
          many     more than 100 training images         2      700        99.3
          medium   20 to 100 training images             0        0         0.0
          few      fewer than 20 training images         1        5         0.7
        <BLANKLINE>
    """
    table = Table(box=box.SIMPLE_HEAD)
    for heading, justify in (("group", "left"), ("a class has", "left"), ("classes", "right"), ("images", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("share (%)", justify="right")
    total = int(classes.counts.sum())
    for name, mask_C in classes.masks.items():
        images = int(classes.counts[mask_C].sum())
        numbers = f"{int(mask_C.sum()):,}", f"{images:,}", f"{100 * images / total:.1f}"
        table.add_row(name, classes.limits[name], *numbers)
    return table


def _value(scores: Scores | Mapping[str, Any], key: str) -> float | None:
    value = scores.get(key) if isinstance(scores, Mapping) else getattr(scores, key)
    return None if value is None else float(value)


def _column(values: Sequence[float | None], digits: int, lower_is_better: bool) -> list[Text]:
    """Cells of one column; what reads the same as the best is marked like it, and nothing where all read the same."""
    texts = [number(value, digits) for value in values]
    known = [value for value in values if value is not None]
    if len({number(value, digits) for value in known}) < 2:
        return [Text(text) for text in texts]
    best = number((min if lower_is_better else max)(known), digits)
    # a star too, as bold is lost in a file
    return [Text(f"{text}*", style="bold") if text == best else Text(f"{text} ") for text in texts]
