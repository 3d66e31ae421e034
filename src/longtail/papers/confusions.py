"""Confusion matrices of two runs and their difference, classes ordered by training images.

Figures 1 to 3 of the supplement of Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition"
(DLSA), ECCV 2022, https://arxiv.org/abs/2208.02567: without, with, difference. Above the diagonal are images of fuller
classes taken for rarer ones.
Shapes: N = images, G = groups of classes; S = side of a matrix: classes, or bins of neighbouring classes
where there are many.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of
from longtail.posthoc.dlsa.analysis import group_confusion
from longtail.report.classes import Classes
from longtail.report.palette import INK
from longtail.report.plots import MAX_CELLS, confusion_shares
from longtail.report.style import Array, plain_numbers, shortened

SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#0072b2", "#00263d"])
DIFFERENCES = LinearSegmentedColormap.from_list("differences", ["#b34700", "#f3b58a", "#ffffff", "#8cc0e0", "#004a75"])


def confusions(runs: Sequence[FinishedRun], *, part: PartName = "test") -> Plot:
    """The confusion matrices of a run and of another, and what changes from the first to the second.

    Args:
        runs: two: without, and with.
        part: "test", or "train" for the training images.

    Raises:
        InputError: if the runs do not compare.
    """
    check_comparable(runs)
    without, with_it = runs
    classes = without.classes
    predicted = [run.logits(part)[0].argmax(1) for run in runs]
    targets_N = without.logits(part)[1]
    side = min(len(classes), MAX_CELLS)
    matrices = [confusion_shares(classes, predicted_N, targets_N, side) for predicted_N in predicted]
    difference_SS = matrices[1] - matrices[0]
    groups = {name: classes.masks[name] for name in classes.filled}
    before_GG, after_GG = (group_confusion(predicted_N, targets_N, groups).numpy() for predicted_N in predicted)
    names = [without.label, with_it.label]
    columns = ("true_rank", "predicted_rank", *names, "difference")
    cells = np.ndindex(difference_SS.shape)
    rows = [(row + 1, to + 1, *(float(m[row, to]) for m in (*matrices, difference_SS))) for row, to in cells]
    return Plot(
        Table(columns, rows),
        lambda figure: _draw(figure, [*matrices, difference_SS, after_GG - before_GG], names, classes),
        height=5.6,
        note="; ".join(filter(None, [f"{part} images, fullest class first", warnings_of(runs)])),
        summary=(_told(difference_SS, names),),
    )


def _told(difference_SS: Array, names: Sequence[str]) -> str:
    known = np.nan_to_num(difference_SS)
    side = len(known)
    return (
        f"{names[1]} against {names[0]}, mean over the true classes, in points: "
        f"recognised {np.trace(known) / side:+.2f}; taken for a rarer class {np.triu(known, 1).sum() / side:+.2f}; "
        f"for a fuller one {np.tril(known, -1).sum() / side:+.2f}"
    )


def _draw(figure: Figure, matrices: Sequence[Array], names: Sequence[str], classes: Classes) -> None:
    (left, right), (below, beside) = figure.subplots(2, 2)
    norm = PowerNorm(0.5, 0, 100)  # a root scale: mistakes of a few percent are what one looks for
    for axes, matrix, name in zip((left, right), matrices, names, strict=False):
        _matrix(axes, matrix, classes, shortened(name, 28), norm, SHARES)
    _scale(figure.colorbar(left.images[0], ax=[left, right], ticks=[0, 1, 5, 20, 50, 100]), "% of the true class")
    reach = max(2.0, float(np.nanquantile(np.abs(matrices[2]), 0.999)))
    title = f"{shortened(names[1], 16)} minus {shortened(names[0], 16)}"
    _matrix(below, matrices[2], classes, title, Normalize(-reach, reach), DIFFERENCES)
    _groups(beside, matrices[3], classes)
    _scale(figure.colorbar(below.images[0], ax=[below, beside], extend="both"), "difference (points)")
    for axes in (left, below):
        axes.set_ylabel("true class (rank)", fontsize=9.5)
    below.set_xlabel("predicted class (rank)", fontsize=9.5)
    beside.set_xlabel("predicted group", fontsize=9.5)


def _groups(axes: Axes, between_GG: Array, classes: Classes) -> None:
    """The difference between whole groups, written into their cells."""
    reach = max(2.0, float(np.nanmax(np.abs(between_GG))))
    axes.imshow(between_GG, DIFFERENCES, Normalize(-1.6 * reach, 1.6 * reach), interpolation="none")
    for (row, column), change in np.ndenumerate(between_GG):
        axes.text(column, row, f"{change:+.1f}", ha="center", va="center", size=10)
    places = range(len(classes.filled))
    axes.set_xticks(places, classes.filled)
    axes.set_yticks(places, classes.filled)
    axes.set_title("the same between groups", fontsize=10)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _scale(scale: Colorbar, label: str) -> None:
    scale.set_label(label, fontsize=9.5)
    scale.ax.yaxis.set_major_formatter(plain_numbers())
    scale.ax.tick_params(labelsize=9)
    scale.ax.grid(visible=False)


def _matrix(
    axes: Axes, matrix: Array, classes: Classes, title: str, norm: Normalize, colours: LinearSegmentedColormap
) -> None:
    extent = (0.5, len(classes) + 0.5, len(classes) + 0.5, 0.5)
    axes.imshow(matrix, colours, norm, extent=extent, interpolation="none")
    axes.set_title(title, fontsize=10)
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    end = 0
    for group in classes.filled[:-1]:
        end += int(classes.masks[group].sum())
        axes.axhline(end + 0.5, color=INK, linewidth=0.6)
        axes.axvline(end + 0.5, color=INK, linewidth=0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axis.set_major_formatter(plain_numbers())
    axes.tick_params(labelsize=9)
