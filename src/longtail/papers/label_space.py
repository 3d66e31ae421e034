"""What each level of DLSA takes from classes of each frequency, and how large and pure its clusters are.

After the analyses of Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. Every cluster of a level is shown with all images it would hold, whoever takes them,
as the classifiers are told of them.
Shapes: N = images, M = levels, K = clusters.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from longtail.errors import InputError
from longtail.models import DLSAHead
from longtail.papers.layout import legend_height
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, PartName, warnings_of
from longtail.papers.series import looks
from longtail.posthoc.dlsa.analysis import frequency_bins, shares_by_level
from longtail.posthoc.dlsa.flow.objectives import tally_clusters
from longtail.report.style import percent_axis, plain_numbers
from longtail.run.run import Run

BINS = 5


class Cluster(NamedTuple):
    """One cluster with images in it.

    Args:
        level: of its filter, from 1.
        size: images in it.
        purity: percent of them that are of its commonest class.
    """

    level: int
    size: int
    purity: float


def label_space(runs: Sequence[FinishedRun], *, part: PartName = "train") -> Plot:
    """Left, the share of each frequency bin that every level takes; right, size and purity of the clusters.

    Args:
        runs: one, whose last stage is `Filter` (`--method dlsa`).
        part: "train", or "test" for the test images.

    Raises:
        InputError: if the run has no filters.
    """
    (run,) = runs
    head = Run(run.folder).model().head
    if not isinstance(head, DLSAHead) or not head.levels:
        raise InputError(f"{run.folder} has no flow filters; give a run of longtail train --method dlsa")
    found = run.outputs(part)
    route = head.route(found.embeddings_ND)
    counts = run.predictions.class_counts
    bins = frequency_bins(counts, min(BINS, len(counts)))
    shares = shares_by_level(route.level_B, found.targets_N, bins, head.levels)
    clusters = []
    for level, cluster_N in enumerate(route.cluster_MB, start=1):
        tally = tally_clusters(cluster_N, found.targets_N, head.priors_MKC.shape[1], len(counts))
        pairs = zip(tally.sizes_K.tolist(), tally.purity_K.tolist(), strict=True)
        clusters += [Cluster(level, size, 100 * purity) for size, purity in pairs if size]
    names = level_names(head.levels)
    return Plot(
        _table(shares, clusters, names),
        lambda figure: _draw(figure, shares, clusters, names),
        height=3.2 + legend_height(names),
        note="; ".join(filter(None, [f"{part} images", warnings_of(runs)])),
        summary=tuple(f"classes of {name} images: {_told(taken, names)}" for name, taken in shares.items()),
    )


def level_names(levels: int) -> list[str]:
    """What the levels are called, and what is left to the regular classifier.

    Example:
        >>> level_names(2)
        ['level 1', 'level 2', 'left over']
    """
    return [*(f"level {level + 1}" for level in range(levels)), "left over"]


def _told(taken: Sequence[float | None], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, taken, strict=True) if share is not None)


def _table(shares: Mapping[str, Sequence[float | None]], clusters: Sequence[Cluster], names: Sequence[str]) -> Table:
    rows: list[tuple[str, str, str, float | None]] = [
        ("share taken (%)", name, level, share)
        for name, taken in shares.items()
        for level, share in zip(names, taken, strict=True)
    ]
    rows += [
        ("cluster purity (%)", str(cluster.size), f"level {cluster.level}", cluster.purity) for cluster in clusters
    ]
    return Table(("quantity", "images_per_class_or_cluster", "level", "value"), rows)


def _draw(
    figure: Figure, shares: Mapping[str, Sequence[float | None]], clusters: Sequence[Cluster], names: Sequence[str]
) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))
    _draw_shares(left, shares, names)
    for level, look in zip(range(1, len(names)), looks(len(names)), strict=False):
        own = [cluster for cluster in clusters if cluster.level == level]
        place = {"color": look.colour, "ms": 4, "mew": 0, "alpha": 0.5}
        right.plot([c.size for c in own], [c.purity for c in own], look.marker, **place)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(numticks=5))
    right.xaxis.set_major_formatter(plain_numbers())
    right.set_xlabel("images in the cluster")
    percent_axis(right, "its commonest class (%)")
    right.set_ylim(0, 104)
    figure.legend(handles=left.containers, labels=list(names), loc="outside upper left", ncols=min(4, len(names)))


def _draw_shares(axes: Axes, shares: Mapping[str, Sequence[float | None]], names: Sequence[str]) -> None:
    below = np.zeros(len(shares))
    for place, look in enumerate(looks(len(names))):
        taken = np.array([share[place] or 0.0 for share in shares.values()])
        axes.bar(
            range(len(shares)), taken, 0.8, below, color=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0
        )
        below += taken
    axes.set_xticks(range(len(shares)), [name.replace("-", "\N{EN DASH}") for name in shares], rotation=30, ha="right")
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("training images per class")
    percent_axis(axes, "share of the images (%)")
