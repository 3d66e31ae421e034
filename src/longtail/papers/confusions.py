"""Confusion between classes: two whole matrices and their difference, and a tail class among similar head classes.

* `confusions`: Figures 1 to 3 of the supplement of Xu et al., "Constructing Balance from Imbalance for Long-tailed
  Image Recognition" (DLSA), ECCV 2022, https://arxiv.org/abs/2208.02567: without, with, difference. Classes are ordered
  by training images. Above the diagonal are images that were predicted as a less frequent class.
* `tail_confusion`: Figure 3 of Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin for
  Long-Tailed Visual Recognition" (WACV 2024): "train" of CIFAR-100-LT with the ten classes of highest Lin similarity in
  WordNet.

Shapes: N = images, C = classes, D = embedding dimension, G = groups of classes; S = side of a matrix (classes, or bins
of neighboring classes if there are many); R = 1 + number of heads, the tail class first.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.papers.plot import Plot, Table, looks, panels_in_rows
from longtail.papers.runs import (
    PartName,
    Runs,
    check_comparable,
    classes_of,
    first_of,
    labels_of,
    logits_of,
    note_of,
    outputs_of,
)
from longtail.posthoc.dlsa.analysis import group_confusion
from longtail.report.charts import MAX_CELLS, confusion_shares
from longtail.report.classes import Classes
from longtail.report.style import INK, Array, plain_numbers, shortened
from longtail.run.run import Run

SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#0072b2", "#00263d"])
DIFFERENCES = LinearSegmentedColormap.from_list("differences", ["#b34700", "#f3b58a", "#ffffff", "#8cc0e0", "#004a75"])
TRAIN = (
    *("train", "bus", "bicycle", "bridge", "motorcycle", "road"),
    *("pickup_truck", "camel", "elephant", "lawn_mower", "mountain"),
)
"""Tail class of the paper's figure, and the ten most similar classes in descending order of similarity."""
HEADS = 10


def confusions(runs: Runs, *, part: PartName = "test") -> Plot:
    """Draw the confusion matrices of two runs and their difference.

    Args:
        runs: Two runs, for example without and with a method.
        part: "test" or "train" images.

    Raises:
        InputError: If the runs are not comparable.
    """
    check_comparable(runs)
    classes = classes_of(first_of(runs))
    predicted = [logits_of(run, part)[0].argmax(1) for run in runs.values()]
    targets_N = logits_of(first_of(runs), part)[1]
    side = min(len(classes), MAX_CELLS)
    matrices = [confusion_shares(classes, predicted_N, targets_N, side) for predicted_N in predicted]
    difference_SS = matrices[1] - matrices[0]
    groups = {name: classes.masks[name] for name in classes.filled}
    before_GG, after_GG = (group_confusion(predicted_N, targets_N, groups).numpy() for predicted_N in predicted)
    names = list(runs)
    columns = ("true_rank", "predicted_rank", *names, "difference")
    cells = np.ndindex(difference_SS.shape)
    rows = [(row + 1, to + 1, *(float(m[row, to]) for m in (*matrices, difference_SS))) for row, to in cells]
    return Plot(
        Table(columns, rows),
        lambda figure: _draw_matrices(figure, [*matrices, difference_SS, after_GG - before_GG], names, classes),
        height=5.6,
        note=note_of(runs, f"{part} images, most frequent class first"),
        summary=(_format_difference(difference_SS, names),),
    )


def _format_difference(difference_SS: Array, names: Sequence[str]) -> str:
    known = np.nan_to_num(difference_SS)
    side = len(known)
    return (
        f"{names[1]} minus {names[0]}, mean over the true classes, in points: correct {np.trace(known) / side:+.2f}; "
        f"predicted as a less frequent class {np.triu(known, 1).sum() / side:+.2f}; "
        f"predicted as a more frequent class {np.tril(known, -1).sum() / side:+.2f}"
    )


def _draw_matrices(figure: Figure, matrices: Sequence[Array], names: Sequence[str], classes: Classes) -> None:
    (left, right), (lower_left, lower_right) = figure.subplots(2, 2)
    norm = PowerNorm(0.5, 0, 100)  # a root scale shows confusions of a few percent
    for axes, matrix, name in zip((left, right), matrices, names, strict=False):
        _draw_matrix(axes, matrix, classes, shortened(name, 28), norm, SHARES)
    _label_scale(figure.colorbar(left.images[0], ax=[left, right], ticks=[0, 1, 5, 20, 50, 100]), "% of the true class")
    reach = max(2.0, float(np.nanquantile(np.abs(matrices[2]), 0.999)))
    title = f"{shortened(names[1], 16)} minus {shortened(names[0], 16)}"
    _draw_matrix(lower_left, matrices[2], classes, title, Normalize(-reach, reach), DIFFERENCES)
    _draw_groups(lower_right, matrices[3], classes)
    scale = figure.colorbar(lower_left.images[0], ax=[lower_left, lower_right], extend="both")
    _label_scale(scale, "difference (points)")
    for axes in (left, lower_left):
        axes.set_ylabel("true class (rank)", fontsize=9.5)
    lower_left.set_xlabel("predicted class (rank)", fontsize=9.5)
    lower_right.set_xlabel("predicted group", fontsize=9.5)


def _draw_groups(axes: Axes, between_GG: Array, classes: Classes) -> None:
    """Draw the difference between whole groups, with numbers in the cells."""
    reach = max(2.0, float(np.nanmax(np.abs(between_GG))))
    axes.imshow(between_GG, DIFFERENCES, Normalize(-1.6 * reach, 1.6 * reach), interpolation="none")
    for (row, column), change in np.ndenumerate(between_GG):
        axes.text(column, row, f"{change:+.1f}", ha="center", va="center", size=10)
    places = range(len(classes.filled))
    axes.set_xticks(places, classes.filled)
    axes.set_yticks(places, classes.filled)
    axes.set_title("difference between groups", fontsize=10)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _label_scale(scale: Colorbar, label: str) -> None:
    scale.set_label(label, fontsize=9.5)
    scale.ax.yaxis.set_major_formatter(plain_numbers())
    scale.ax.tick_params(labelsize=9)
    scale.ax.grid(visible=False)


def _draw_matrix(
    axes: Axes, matrix: Array, classes: Classes, title: str, norm: Normalize, colors: LinearSegmentedColormap
) -> None:
    extent = (0.5, len(classes) + 0.5, len(classes) + 0.5, 0.5)
    axes.imshow(matrix, colors, norm, extent=extent, interpolation="none")
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


def tail_confusion(
    runs: Runs, *, part: PartName = "test", tail: str | None = None, heads: Sequence[str] | None = None
) -> Plot:
    """Draw the confusion between a tail class and similar head classes, a panel for each run.

    Args:
        runs: 1 to 10 runs.
        part: "test" or "train" images.
        tail: Name of the tail class. Default: "train" for CIFAR-100, else the least frequent class.
        heads: Names of the head classes. Default: those of the paper for "train", else the ten more frequent classes
            whose mean embeddings under the first run are nearest.

    Raises:
        InputError: If the runs are not comparable, or a class is unknown.
    """
    check_comparable(runs)
    looks(len(runs))  # raises if there are too many
    classes = classes_of(first_of(runs))
    chosen = _chosen(first_of(runs), classes, tail, heads)
    matrices = {}
    for name, run in runs.items():
        logits_NC, targets_N = logits_of(run, part)
        matrices[name] = shares_among(logits_NC.argmax(1), targets_N, chosen)
    names = [classes.names[label] for label in chosen]
    rows = [
        (run, names[row], predicted, float(share))
        for run, matrix in matrices.items()
        for row in range(len(names))
        for predicted, share in zip([*names, "any other class"], matrix[row], strict=True)
    ]
    count = int(classes.counts[chosen[0]])
    return Plot(
        Table(("run", "true_class", "predicted_class", "percent"), rows),
        lambda figure: _draw_panels(figure, matrices, names),
        height=0.5 + 2.35 * -(-len(runs) // 2) if len(runs) > 1 else 4.2,
        note=note_of(runs, f"{part} images; the first row is the tail class"),
        summary=tuple(
            f"{run}: {names[0]} ({count} training images) {matrix[0, 0]:.1f} % correct, {matrix[0, 1:-1].sum():.1f} % "
            f"predicted as one of {', '.join(names[1:])}"
            for run, matrix in matrices.items()
        ),
    )


def _chosen(run: Run, classes: Classes, tail: str | None, heads: Sequence[str] | None) -> list[int]:
    """Return the labels of the tail class and of the heads."""
    if tail is None:
        tail = TRAIN[0] if set(TRAIN) <= set(classes.names) else classes.names[int(classes.order[-1])]
    (tail_label,) = labels_of([tail], classes)
    if heads is None and tail == TRAIN[0] and set(TRAIN) <= set(classes.names):
        heads = TRAIN[1:]
    if heads is None:
        found = outputs_of(run, "train")
        return [tail_label, *nearest_heads(found.embeddings_ND, found.targets_N, tail_label, classes.counts)]
    if not heads:
        raise InputError("`heads` must name at least one head class")
    return labels_of([tail, *heads], classes)


def nearest_heads(embeddings_ND: Tensor, targets_N: Tensor, tail: int, counts_C: Tensor) -> list[int]:
    """Return the head classes whose mean embeddings have the highest cosine with that of a tail class, nearest first.

    Args:
        embeddings_ND: Embeddings of training images.
        targets_N: Labels of the images.
        tail: Label of the tail class.
        counts_C: Training images of each class. Classes with more than 100 are heads; if there are fewer than ten of
            them, all classes more frequent than the tail class are.

    Raises:
        InputError: If no class is more frequent.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> nearest_heads(embeddings, torch.arange(3), tail=0, counts_C=torch.tensor([5, 300, 200]))
        [1, 2]
    """
    heads_C = counts_C > 100
    heads_C[tail] = False
    if int(heads_C.sum()) < HEADS:
        heads_C = counts_C > counts_C[tail]
    if not heads_C.any():
        raise InputError("no class has more training images than the tail class; choose another `tail`")
    means_CD = torch.zeros(len(counts_C), embeddings_ND.shape[1]).index_add_(0, targets_N, embeddings_ND.float())
    cosines_C = F.normalize(means_CD, dim=1) @ F.normalize(means_CD[tail], dim=0)
    order_C = cosines_C.masked_fill(~heads_C, -torch.inf).argsort(descending=True, stable=True)
    nearest: list[int] = order_C[: min(HEADS, int(heads_C.sum()))].tolist()
    return nearest


def shares_among(predicted_N: Tensor, targets_N: Tensor, chosen: Sequence[int]) -> Array:
    """Return the percentage of each chosen class's images predicted as each of them; last column: any other class.

    Args:
        predicted_N: Predicted labels.
        targets_N: True labels.
        chosen: Labels of the chosen classes.

    Returns:
        Shape (R, R + 1), with NaN in the row of a class without images.

    Example:
        >>> shares_among(torch.tensor([0, 2, 3, 2]), torch.tensor([2, 2, 2, 0]), [2, 0])
        array([[ 33.33...,  33.33...,  33.33...],
               [100. ,   0. ,   0. ]])
    """
    rows = []
    for true in chosen:
        own = predicted_N[targets_N == true]
        hits = [int((own == label).sum()) for label in chosen]
        rows.append([100 * count / len(own) if len(own) else np.nan for count in (*hits, len(own) - sum(hits))])
    return np.array(rows)


def _draw_panels(figure: Figure, matrices: Mapping[str, Array], names: Sequence[str]) -> None:
    columns = min(2, len(matrices))
    panels = panels_in_rows(figure, len(matrices), columns)
    side = len(names)
    for place, (axes, (run, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        axes.imshow(matrix[:, :side], SHARES, vmin=0, vmax=100, interpolation="none", aspect="equal")
        for (row, column), share in np.ndenumerate(matrix[:, :side]):
            if share >= 0.5:
                color = "white" if share > 38 else INK
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=6.5, color=color)
        axes.set_title(shortened(run, 26), fontsize=10)
        axes.set_xticks(range(side), [str(number) for number in range(side)])
        labels = [f"{shortened(name)}  {number}" for number, name in enumerate(names)]
        axes.set_yticks(range(side), labels)
        axes.tick_params(length=0, labelsize=8, labelbottom=True, labelleft=place % columns == 0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for axes in panels[-columns:]:
        axes.set_xlabel("predicted class", fontsize=9)
    for axes in panels[::columns]:
        axes.set_ylabel("true class", fontsize=9)
