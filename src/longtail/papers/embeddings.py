"""Embeddings of runs: two-dimensional t-SNE maps, and the levels and clusters of DLSA.

* `tsne`: Figure 5 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022), a column for each group of
  classes, and Figure 2 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition"
  (NeurIPS 2020), ten classes in one panel. Each run has its own map, from scikit-learn's t-SNE (van der Maaten and
  Hinton): neither the axes nor the distances between far clusters have a meaning.
* `label_space`: after the analyses of Xu et al., "Constructing Balance from Imbalance for Long-tailed Image
  Recognition" (DLSA), ECCV 2022, https://arxiv.org/abs/2208.02567. A cluster holds all images nearest to it, including
  those that an earlier level takes, because the classifiers are trained on these priors.

Shapes: N = images, D = embedding dimension, M = levels, K = clusters.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from sklearn.manifold import TSNE
from torch import Tensor

from longtail._logging import progress_bar
from longtail.errors import InputError
from longtail.models import DLSAHead
from longtail.papers.plot import Plot, Table, legend_columns, legend_height, looks, panels_in_rows
from longtail.papers.runs import (
    PartName,
    Runs,
    check_comparable,
    classes_of,
    first_of,
    labels_of,
    note_of,
    outputs_of,
)
from longtail.posthoc.dlsa import tally_clusters
from longtail.posthoc.dlsa.analysis import frequency_bins, shares_by_level
from longtail.report.classes import Classes
from longtail.report.style import RULE, Array, percent_axis, plain_numbers, shortened

MOST_CLASSES = 10
"""Largest number of classes that one panel distinguishes."""
PER_GROUP = 5
PERPLEXITY = 30.0
BINS = 5


class Layout(NamedTuple):
    """Two-dimensional map of a run's images.

    Args:
        places_N2: Coordinates, shape (N, 2).
        labels_N: Labels, shape (N,).
    """

    places_N2: Array
    labels_N: Array


class Cluster(NamedTuple):
    """A cluster with at least one image.

    Args:
        level: Level of its filter, from 1.
        size: Number of images.
        purity: Percentage of the images in its most common class.
    """

    level: int
    size: int
    purity: float


def tsne(
    runs: Runs,
    *,
    part: PartName = "train",
    classes: Sequence[str] | None = None,
    images_per_class: int = 60,
    seed: int = 0,
) -> Plot:
    """Draw t-SNE maps of the embeddings: a row for each run and, with more than ten classes, a column for each group.

    Args:
        runs: 1 to 10 runs.
        part: "train" or "test" images.
        classes: Names of the classes. Default: all classes if there are at most ten, else five of each group, evenly
            spaced in rank.
        images_per_class: Largest number of images of each class.
        seed: Seed of the choice of images and of t-SNE.

    Raises:
        InputError: If the runs are not comparable, a class is unknown, or there are too few images.
    """
    check_comparable(runs)
    looks(len(runs))  # raises if there are too many
    if images_per_class < 1:
        raise InputError(f"`images_per_class` must be an integer >= 1, got {images_per_class}")
    known = classes_of(first_of(runs))
    labels = _chosen(known, classes)
    layouts = {}
    with progress_bar("t-SNE", len(runs)) as bar:
        for name, run in runs.items():
            found = outputs_of(run, part)
            rows_N = sampled(found.targets_N, labels, images_per_class, seed)
            layouts[name] = _map(found.embeddings_ND[rows_N], found.targets_N[rows_N], seed)
            bar.advance()
    columns = {"all classes": labels} if len(labels) <= MOST_CLASSES else _by_group(labels, known)
    legends = [known.names[label] for own in columns.values() for label in own]
    panel = (2.4 if len(runs) > 1 else 3.6) if len(columns) == 1 else 1.75
    panel_rows = -(-len(runs) // 2) if len(columns) == 1 else len(runs)
    room = legend_height(legends) if len(columns) == 1 else 0.24 * max(map(len, columns.values())) + 0.3
    return Plot(
        _layout_table(layouts, known),
        lambda figure: _draw_maps(figure, layouts, columns, known),
        height=panel * panel_rows + room + 0.3,
        note=note_of(runs, f"{part} images"),
    )


def _chosen(known: Classes, names: Sequence[str] | None) -> list[int]:
    if names is not None:
        chosen = labels_of(names, known)
        most = max(len(own) for own in _by_group(chosen, known).values())
        if len(chosen) > MOST_CLASSES < most:
            raise InputError(f"a panel can show at most {MOST_CLASSES} classes, got {most}; give fewer `classes`")
        return chosen
    if len(known) <= MOST_CLASSES:
        everything: list[int] = known.order.tolist()
        return everything
    chosen = []
    for group in known.filled:
        members = [label for label in known.order.tolist() if known.masks[group][label]]
        spread = np.linspace(0, len(members) - 1, min(PER_GROUP, len(members))).round().astype(int)
        chosen += [members[place] for place in spread]
    return chosen


def _by_group(labels: Sequence[int], known: Classes) -> dict[str, list[int]]:
    """Return the classes of each group that has any."""
    groups = {f"{group}-shot": [label for label in labels if known.masks[group][label]] for group in known.filled}
    return {name: own for name, own in groups.items() if own}


def sampled(targets_N: Tensor, labels: Sequence[int], per_class: int, seed: int) -> Tensor:
    """Sample up to `per_class` images of each class. The sample depends on the seed only, so all runs share it.

    Args:
        targets_N: Labels of all images.
        labels: Classes to sample from.
        per_class: Largest number of images of each class.
        seed: Seed of the sample.

    Example:
        >>> rows = sampled(torch.tensor([0, 0, 0, 1, 2]), [0, 2], per_class=2, seed=0)
        >>> len(rows), int(rows[-1])
        (3, 4)
    """
    order_N = torch.randperm(len(targets_N), generator=torch.Generator().manual_seed(seed))
    shuffled_N = targets_N[order_N]
    return torch.cat([order_N[shuffled_N == label][:per_class] for label in labels])


def _map(embeddings_ND: Tensor, labels_N: Tensor, seed: int) -> Layout:
    if len(labels_N) < 4:
        raise InputError(f"t-SNE needs at least 4 images, but the chosen classes have {len(labels_N)}; choose others")
    perplexity = min(PERPLEXITY, (len(labels_N) - 1) / 3)
    start = "random" if embeddings_ND.shape[1] < 2 else "pca"
    method = TSNE(2, perplexity=perplexity, init=start, learning_rate="auto", random_state=seed)
    return Layout(method.fit_transform(embeddings_ND.numpy()), labels_N.numpy())


def _layout_table(layouts: Mapping[str, Layout], known: Classes) -> Table:
    rows = [
        (run, known.names[label], known.group_names[label], x, y)
        for run, found in layouts.items()
        for (x, y), label in zip(found.places_N2.tolist(), found.labels_N.tolist(), strict=True)
    ]
    return Table(("run", "class", "group", "x", "y"), rows)


def _draw_maps(
    figure: Figure, layouts: Mapping[str, Layout], columns: Mapping[str, Sequence[int]], known: Classes
) -> None:
    if len(columns) == 1:
        (labels,) = columns.values()
        panels = panels_in_rows(figure, len(layouts), 2, share=False)
        for axes, (run, found) in zip(panels, layouts.items(), strict=True):
            _draw_map(axes, found, labels)
            axes.set_title(shortened(run, 28), fontsize=10)
        handles = _handles(labels, known)
        shown = [str(handle.get_label()) for handle in handles]
        figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(shown), handletextpad=0.2)
        return
    grid = figure.subplots(len(layouts), len(columns), squeeze=False)
    for row, (run, found) in zip(grid, layouts.items(), strict=True):
        row[0].set_ylabel(shortened(run, 22), fontsize=9.5)
        for axes, labels in zip(row, columns.values(), strict=True):
            _draw_map(axes, found, labels)
    for axes, (group, labels) in zip(grid[-1], columns.items(), strict=True):
        handles = _handles(labels, known)
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.08, -0.02), fontsize=8.5, handletextpad=0.1)
        grid[0][list(columns).index(group)].set_title(group, fontsize=10)


def _draw_map(axes: Axes, found: Layout, labels: Sequence[int]) -> None:
    others_N = ~np.isin(found.labels_N, labels)
    axes.plot(*found.places_N2[others_N].T, ".", color=RULE, ms=2.5, mew=0)
    for label, look in zip(labels, looks(len(labels)), strict=True):
        own_N = found.labels_N == label
        axes.plot(*found.places_N2[own_N].T, look.marker, color=look.color, ms=3.2, mew=0, alpha=0.85)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, linewidth=0.5)


def _handles(labels: Sequence[int], known: Classes) -> list[Line2D]:
    return [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", ms=5, label=shortened(known.names[label]))
        for label, look in zip(labels, looks(len(labels)), strict=True)
    ]


def label_space(runs: Runs, *, part: PartName = "train") -> Plot:
    """Draw the share of each frequency bin that every level of DLSA takes, and size and purity of the clusters.

    Args:
        runs: One run whose last stage is `Filter` (method "dlsa").
        part: "train" or "test" images.

    Raises:
        InputError: If the run has no flow filters.
    """
    (run,) = runs.values()
    head = run.model().head
    if not isinstance(head, DLSAHead) or not head.levels:
        raise InputError(f"{run.folder} has no flow filters; give a run of the method dlsa")
    found = outputs_of(run, part)
    route = head.route(found.embeddings_ND)
    counts = run.predictions().class_counts
    bins = frequency_bins(counts, min(BINS, len(counts)))
    shares = shares_by_level(route.level_B, found.targets_N, bins, head.levels)
    clusters = []
    for level, cluster_N in enumerate(route.cluster_MB, start=1):
        tally = tally_clusters(cluster_N, found.targets_N, head.priors_MKC.shape[1], len(counts))
        pairs = zip(tally.sizes_K.tolist(), tally.purity_K.tolist(), strict=True)
        clusters += [Cluster(level, size, 100 * purity) for size, purity in pairs if size]
    names = level_names(head.levels)
    return Plot(
        _level_table(shares, clusters, names),
        lambda figure: _draw_levels(figure, shares, clusters, names),
        height=3.2 + legend_height(names),
        note=note_of(runs, f"{part} images"),
        summary=tuple(f"classes of {name} images: {_format_shares(taken, names)}" for name, taken in shares.items()),
    )


def level_names(levels: int) -> list[str]:
    """Return the names of the levels, and of the remainder that the regular classifier takes.

    Args:
        levels: Number of levels.

    Example:
        >>> level_names(2)
        ['level 1', 'level 2', 'left over']
    """
    return [*(f"level {level + 1}" for level in range(levels)), "left over"]


def _format_shares(taken: Sequence[float | None], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, taken, strict=True) if share is not None)


def _level_table(
    shares: Mapping[str, Sequence[float | None]], clusters: Sequence[Cluster], names: Sequence[str]
) -> Table:
    rows: list[tuple[str, str, str, float | None]] = [
        ("share taken (%)", name, level, share)
        for name, taken in shares.items()
        for level, share in zip(names, taken, strict=True)
    ]
    rows += [
        ("cluster purity (%)", str(cluster.size), f"level {cluster.level}", cluster.purity) for cluster in clusters
    ]
    return Table(("quantity", "images_per_class_or_cluster", "level", "value"), rows)


def _draw_levels(
    figure: Figure, shares: Mapping[str, Sequence[float | None]], clusters: Sequence[Cluster], names: Sequence[str]
) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))
    _draw_shares(left, shares, names)
    for level, look in zip(range(1, len(names)), looks(len(names)), strict=False):
        own = [cluster for cluster in clusters if cluster.level == level]
        style = {"color": look.color, "ms": 4, "mew": 0, "alpha": 0.5}
        right.plot([c.size for c in own], [c.purity for c in own], look.marker, **style)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(numticks=5))
    right.xaxis.set_major_formatter(plain_numbers())
    right.set_xlabel("images in the cluster")
    percent_axis(right, "most common class (%)")
    right.set_ylim(0, 104)
    figure.legend(handles=left.containers, labels=list(names), loc="outside upper left", ncols=min(4, len(names)))


def _draw_shares(axes: Axes, shares: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> None:
    lower = np.zeros(len(shares))
    for place, look in enumerate(looks(len(names))):
        taken = np.array([share[place] or 0.0 for share in shares.values()])
        style: dict[str, Any] = {"color": look.color, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0}
        axes.bar(range(len(shares)), taken, 0.8, lower, **style)
        lower += taken
    axes.set_xticks(range(len(shares)), [name.replace("-", "\N{EN DASH}") for name in shares], rotation=30, ha="right")
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("training images per class")
    percent_axis(axes, "share of the images (%)")
