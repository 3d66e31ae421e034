"""A tail class among the head classes most like it: what is taken for what.

Figure 3 of Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin for Long-Tailed Visual
Recognition" (WACV 2024): "train" of CIFAR-100-LT with the ten classes that WordNet's Lin similarity puts next to it.
Shapes: R = 1 + heads rows, the tail class first; C = classes, D = embedding dimension.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.papers.confusions import SHARES
from longtail.papers.labels import labels_of
from longtail.papers.layout import panels_in_rows
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.classes import Classes
from longtail.report.palette import INK
from longtail.report.style import Array, shortened

TRAIN = (
    *("train", "bus", "bicycle", "bridge", "motorcycle", "road"),
    *("pickup_truck", "camel", "elephant", "lawn_mower", "mountain"),
)
"""The class of the paper's figure, and the ten most like it, the likest first."""
HEADS = 10


def tail_confusion(
    runs: Sequence[FinishedRun],
    *,
    part: PartName = "test",
    tail: str | None = None,
    heads: Sequence[str] | None = None,
) -> Plot:
    """Shares of the images of a tail class and of similar head classes that are taken for each other.

    Args:
        runs: 1 to 10, a panel each.
        part: "test", or "train" for the training images.
        tail: name of the tail class; by default "train" where the data are CIFAR-100, else the rarest class.
        heads: names of the head classes; by default those of the paper for "train", else the ten fuller classes whose
            mean embeddings under the first run are nearest.

    Raises:
        InputError: if the runs do not compare, or a class is unknown.
    """
    check_comparable(runs)
    looks(len(runs))
    classes = runs[0].classes
    chosen = _chosen(runs[0], tail, heads)
    matrices = {}
    for run in runs:
        logits_NC, targets_N = run.logits(part)
        matrices[run.label] = shares_among(logits_NC.argmax(1), targets_N, chosen)
    names = [classes.names[label] for label in chosen]
    rows = [
        (run, names[row], predicted, float(share))
        for run, matrix in matrices.items()
        for row in range(len(names))
        for predicted, share in zip([*names, "any other class"], matrix[row], strict=True)
    ]
    return Plot(
        Table(("run", "true_class", "predicted_class", "percent"), rows),
        lambda figure: _draw(figure, matrices, names),
        height=0.5 + 2.35 * -(-len(runs) // 2) if len(runs) > 1 else 4.2,
        note="; ".join(filter(None, [f"{part} images; the first row is the tail class", warnings_of(runs)])),
        summary=tuple(_told(run, matrix, names, classes, chosen[0]) for run, matrix in matrices.items()),
    )


def _told(run: str, matrix: Array, names: Sequence[str], classes: Classes, tail: int) -> str:
    count = int(classes.counts[tail])
    return (
        f"{run}: of {names[0]} ({count} training images) {matrix[0, 0]:.1f} % recognised, {matrix[0, 1:-1].sum():.1f} "
        f"% taken for one of {', '.join(names[1:])}"
    )


def _chosen(run: FinishedRun, tail: str | None, heads: Sequence[str] | None) -> list[int]:
    """Labels of the tail class and of the heads."""
    classes = run.classes
    if tail is None:
        tail = TRAIN[0] if set(TRAIN) <= set(classes.names) else classes.names[int(classes.order[-1])]
    (tail_label,) = labels_of([tail], classes)
    if heads is None and tail == TRAIN[0] and set(TRAIN) <= set(classes.names):
        heads = TRAIN[1:]
    if heads is None:
        found = run.outputs("train")
        return [tail_label, *nearest_heads(found.embeddings_ND, found.targets_N, tail_label, classes.counts)]
    if not heads:
        raise InputError("--heads takes the names of one or more head classes")
    return labels_of([tail, *heads], classes)


def nearest_heads(embeddings_ND: Tensor, targets_N: Tensor, tail: int, counts_C: Tensor) -> list[int]:
    """The fuller classes whose mean embedding has the highest cosine with that of a tail class, the nearest first.

    Args:
        embeddings_ND: of training images.
        targets_N: their labels.
        tail: label of the tail class.
        counts_C: training images of each class; the many-shot classes with more than 100 are heads, or where there
            are fewer than ten of these all classes fuller than the tail class.

    Raises:
        InputError: if no class is fuller.

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
        raise InputError("no class has more training images than the tail class; choose another --tail")
    means_CD = torch.zeros(len(counts_C), embeddings_ND.shape[1]).index_add_(0, targets_N, embeddings_ND.float())
    cosines_C = F.normalize(means_CD, dim=1) @ F.normalize(means_CD[tail], dim=0)
    order_C = cosines_C.masked_fill(~heads_C, -torch.inf).argsort(descending=True, stable=True)
    nearest: list[int] = order_C[: min(HEADS, int(heads_C.sum()))].tolist()
    return nearest


def shares_among(predicted_N: Tensor, targets_N: Tensor, chosen: Sequence[int]) -> Array:
    """Percent of the images of each chosen class taken for each of them, and in a last column for any other class.

    Returns:
        Shape (R, R + 1); NaN in the row of a class without images.

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


def _draw(figure: Figure, matrices: Mapping[str, Array], names: Sequence[str]) -> None:
    columns = min(2, len(matrices))
    panels = panels_in_rows(figure, len(matrices), columns)
    side = len(names)
    for place, (axes, (run, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        axes.imshow(matrix[:, :side], SHARES, vmin=0, vmax=100, interpolation="none", aspect="equal")
        for (row, column), share in np.ndenumerate(matrix[:, :side]):
            if share >= 0.5:
                colour = "white" if share > 38 else INK
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=6.5, color=colour)
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
