"""Figures of a comparison, as SVG text: classes run from the most training images to the fewest.

Shapes: C = classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from longtail.report.classes import Classes
from longtail.report.comparison.pair import Pair
from longtail.report.comparison.together import Comparison
from longtail.report.palette import INK, MUTED, RULE
from longtail.report.style import Array, drawing, percent_axis, plain_numbers, shortened, to_svg

NAMED_CLASSES = 20  # with more, an axis shows ranks instead of names
BINS = 24  # points of a line; with more classes, each is the mean of neighbours
MAX_ARROWS = 500  # with more classes, an arrow stands for neighbours
GAIN, LOSS = "#cc79a7", "#e69f00"  # Okabe and Ito's, apart from the colours of the groups
_LINES = (  # colour, dash, marker of each contender; told apart by the colour-blind and in black and white
    (INK, "-", "o"), ("#0072b2", "-", "s"), ("#d55e00", "--", "^"), ("#009e73", "-.", "D"),
    ("#cc79a7", ":", "v"), ("#56b4e9", "--", "P"), ("#e69f00", "-.", "X"), (MUTED, ":", "*"),
)  # fmt: skip


def accuracy_figure(comparison: Comparison) -> str:
    """Accuracy of every contender along the classes."""
    classes = comparison.classes
    parts = _neighbours(classes, BINS if len(classes) > NAMED_CLASSES else len(classes))
    with drawing(height=3.6) as figure:
        axes = figure.subplots()
        for each, (colour, dash, marker) in zip(comparison.contenders, _LINES, strict=False):
            x, y = _means(parts, _in_order(classes, each.scores.per_class))
            axes.plot(x, y, dash, color=colour, marker=marker, ms=4.5, linewidth=1.5, label=shortened(each.label, 40))
        percent_axis(axes, "accuracy (%)")
        _class_axis(axes, classes)
        short = all(len(each.label) <= 12 for each in comparison.contenders)
        figure.legend(loc="outside upper left", ncols=4 if short else 2)
        return to_svg(figure, "accuracy")


def change_figure(pair: Pair, name: str) -> str:
    """An arrow for each class, from its accuracy under the reference to that under the other.

    Args:
        pair: what is drawn.
        name: told apart from other figures of the page by this.
    """
    classes = pair.classes
    parts = _neighbours(classes, MAX_ARROWS if len(classes) > MAX_ARROWS else len(classes))
    x, before = _means(parts, _in_order(classes, pair.reference.scores.per_class))
    _, after = _means(parts, _in_order(classes, pair.other.scores.per_class))
    with drawing(height=3.6) as figure:
        axes = figure.subplots()
        for better, colour, marker, label in ((True, GAIN, "^", "better"), (False, LOSS, "v", "worse")):
            own = (after > before) if better else (after < before)
            axes.vlines(x[own], before[own], after[own], color=colour, linewidth=max(0.6, 2 - len(x) / 200))
            size = 5.5 if len(x) <= 100 else 3.5
            axes.plot(x[own], after[own], marker, color=colour, ms=size, mew=0, label=f"{label} ({int(own.sum()):,})")
        same = before == after
        axes.plot(x[same], after[same], "o", color=MUTED, ms=3, mew=0, label=f"the same ({int(same.sum()):,})")
        percent_axis(axes, "accuracy (%)")
        _class_axis(axes, classes)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure, name)


def _in_order(classes: Classes, values: Sequence[float | None]) -> Array:
    return np.array([np.nan if values[c] is None else values[c] for c in classes.order.tolist()], float)


def _neighbours(classes: Classes, wanted: int) -> list[Array]:
    """The ranks of the classes, cut into about as many parts as wanted, none of which crosses two groups."""
    ranks_C = np.arange(1, len(classes) + 1)
    names_C = np.array(classes.group_names)[classes.order.numpy()]
    parts = []
    for name in classes.filled:
        own = ranks_C[names_C == name]
        parts += np.array_split(own, max(1, round(wanted * len(own) / len(classes))))
    return parts


def _means(parts: list[Array], values_C: Array) -> tuple[Array, Array]:
    """Mean rank and mean value of each part; parts without a value are left out."""
    known = [(part, values_C[part - 1]) for part in parts]
    known = [(part, values) for part, values in known if not np.isnan(values).all()]
    return np.array([part.mean() for part, _ in known]), np.array([np.nanmean(values) for _, values in known])


def _class_axis(axes: Axes, classes: Classes) -> None:
    axes.set_xlim(0.4, len(classes) + 0.6)
    start = 0
    for name in classes.filled:
        end = start + int(classes.masks[name].sum())
        if end < len(classes):
            axes.axvline(end + 0.5, color=RULE, linewidth=1)
        if end - start >= len(classes) / 8:  # else the word is longer than its span
            middle = (start + end) / 2 + 0.5
            axes.text(middle, 99, f"{name}-shot", ha="center", va="top", color=MUTED)
        start = end
    if len(classes) <= NAMED_CLASSES:
        names = [shortened(classes.names[c]) for c in classes.order.tolist()]
        turned = max(map(len, names)) * len(names) > 60
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90 if turned else 0)
    else:
        axes.set_xlabel("class, by number of training images (rank)")
        axes.xaxis.set_major_formatter(plain_numbers())
