"""Embeddings of a few classes in two dimensions, by t-SNE.

Figure 5 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022), a column for each group of classes, and
Figure 2 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition" (NeurIPS 2020), all
of ten classes at once. Each run is laid out on its own, by van der Maaten and Hinton's method as scikit-learn has it:
neither the axes nor the distances between far clusters mean anything.
Shapes: N = images, D = embedding dimension.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE
from torch import Tensor

from longtail._logging import progress_bar
from longtail.errors import InputError
from longtail.papers.labels import labels_of
from longtail.papers.layout import legend_columns, legend_height, panels_in_rows
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.classes import Classes
from longtail.report.palette import RULE
from longtail.report.style import Array, shortened

TOGETHER = 10  # classes that one panel tells apart
PER_GROUP = 5
PERPLEXITY = 30.0


class Layout(NamedTuple):
    """One run's images on the plane.

    Args:
        places_N2: coordinates.
        labels_N: their classes.
    """

    places_N2: Array
    labels_N: Array


def tsne(
    runs: Sequence[FinishedRun],
    *,
    part: PartName = "train",
    classes: Sequence[str] | None = None,
    images_per_class: int = 60,
    seed: int = 0,
) -> Plot:
    """Embeddings on the plane: a row for each run; beyond ten classes, a column for each group of them.

    Args:
        runs: 1 to 10.
        part: "train", or "test" for the test images.
        classes: names; by default all of up to ten, else five of each group, evenly spread over their ranks.
        images_per_class: at most.
        seed: of the choice of images and of t-SNE.

    Raises:
        InputError: if the runs do not compare, a class is unknown, or too few images are left.
    """
    check_comparable(runs)
    looks(len(runs))
    if images_per_class < 1:
        raise InputError(f"--images-per-class must be at least 1, not {images_per_class}")
    known = runs[0].classes
    labels = _chosen(known, classes)
    layouts = {}
    with progress_bar("t-SNE", len(runs)) as bar:
        for run in runs:
            found = run.outputs(part)
            rows_N = sampled(found.targets_N, labels, images_per_class, seed)
            layouts[run.label] = _laid_out(found.embeddings_ND[rows_N], found.targets_N[rows_N], seed)
            bar.advance()
    columns = {"all classes": labels} if len(labels) <= TOGETHER else _by_group(labels, known)
    legends = [known.names[label] for own in columns.values() for label in own]
    panel = (2.4 if len(runs) > 1 else 3.6) if len(columns) == 1 else 1.75
    panel_rows = -(-len(runs) // 2) if len(columns) == 1 else len(runs)
    room = legend_height(legends) if len(columns) == 1 else 0.24 * max(map(len, columns.values())) + 0.3
    return Plot(
        _table(layouts, known),
        lambda figure: _draw(figure, layouts, columns, known),
        height=panel * panel_rows + room + 0.3,
        note="; ".join(filter(None, [f"{part} images", warnings_of(runs)])),
    )


def _chosen(known: Classes, names: Sequence[str] | None) -> list[int]:
    if names is not None:
        chosen = labels_of(names, known)
        most = max(len(own) for own in _by_group(chosen, known).values())
        if len(chosen) > TOGETHER < most:
            raise InputError(f"a panel tells at most {TOGETHER} classes apart, not {most}; give fewer --classes")
        return chosen
    if len(known) <= TOGETHER:
        everything: list[int] = known.order.tolist()
        return everything
    chosen = []
    for group in known.filled:
        members = [label for label in known.order.tolist() if known.masks[group][label]]
        spread = np.linspace(0, len(members) - 1, min(PER_GROUP, len(members))).round().astype(int)
        chosen += [members[place] for place in spread]
    return chosen


def _by_group(labels: Sequence[int], known: Classes) -> dict[str, list[int]]:
    """The classes of each group that has any."""
    groups = {f"{group}-shot": [label for label in labels if known.masks[group][label]] for group in known.filled}
    return {name: own for name, own in groups.items() if own}


def sampled(targets_N: Tensor, labels: Sequence[int], per_class: int, seed: int) -> Tensor:
    """Up to so many images of each class, drawn by the seed: the same ones for every run.

    Example:
        >>> rows = sampled(torch.tensor([0, 0, 0, 1, 2]), [0, 2], per_class=2, seed=0)
        >>> len(rows), int(rows[-1])
        (3, 4)
    """
    order_N = torch.randperm(len(targets_N), generator=torch.Generator().manual_seed(seed))
    shuffled_N = targets_N[order_N]
    return torch.cat([order_N[shuffled_N == label][:per_class] for label in labels])


def _laid_out(embeddings_ND: Tensor, labels_N: Tensor, seed: int) -> Layout:
    if len(labels_N) < 4:
        raise InputError(f"t-SNE needs at least 4 images, but the chosen classes have {len(labels_N)}; choose others")
    perplexity = min(PERPLEXITY, (len(labels_N) - 1) / 3)
    flat = embeddings_ND.shape[1] < 2
    start = "random" if flat else "pca"
    method = TSNE(2, perplexity=perplexity, init=start, learning_rate="auto", random_state=seed)
    return Layout(method.fit_transform(embeddings_ND.numpy()), labels_N.numpy())


def _table(layouts: Mapping[str, Layout], known: Classes) -> Table:
    rows = [
        (run, known.names[label], known.group_names[label], x, y)
        for run, found in layouts.items()
        for (x, y), label in zip(found.places_N2.tolist(), found.labels_N.tolist(), strict=True)
    ]
    return Table(("run", "class", "group", "x", "y"), rows)


def _draw(figure: Figure, layouts: Mapping[str, Layout], columns: Mapping[str, Sequence[int]], known: Classes) -> None:
    if len(columns) == 1:
        (labels,) = columns.values()
        panels = panels_in_rows(figure, len(layouts), 2, share=False)
        for axes, (run, found) in zip(panels, layouts.items(), strict=True):
            _draw_panel(axes, found, labels)
            axes.set_title(shortened(run, 28), fontsize=10)
        handles = _handles(labels, known)
        shown = [str(handle.get_label()) for handle in handles]
        figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(shown), handletextpad=0.2)
        return
    grid = figure.subplots(len(layouts), len(columns), squeeze=False)
    for row, (run, found) in zip(grid, layouts.items(), strict=True):
        row[0].set_ylabel(shortened(run, 22), fontsize=9.5)
        for axes, labels in zip(row, columns.values(), strict=True):
            _draw_panel(axes, found, labels)
    for axes, (group, labels) in zip(grid[-1], columns.items(), strict=True):
        handles = _handles(labels, known)
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.08, -0.02), fontsize=8.5, handletextpad=0.1)
        grid[0][list(columns).index(group)].set_title(group, fontsize=10)


def _draw_panel(axes: Axes, found: Layout, labels: Sequence[int]) -> None:
    others_N = ~np.isin(found.labels_N, labels)
    axes.plot(*found.places_N2[others_N].T, ".", color=RULE, ms=2.5, mew=0)
    for label, look in zip(labels, looks(len(labels)), strict=True):
        own_N = found.labels_N == label
        axes.plot(*found.places_N2[own_N].T, look.marker, color=look.colour, ms=3.2, mew=0, alpha=0.85)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, linewidth=0.5)


def _handles(labels: Sequence[int], known: Classes) -> list[Line2D]:
    return [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="", ms=5, label=shortened(known.names[label]))
        for label, look in zip(labels, looks(len(labels)), strict=True)
    ]
