"""Figures of confidence, margins and training, as SVG text.

Shapes: M = test images of a group, E = epochs, K = bins.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from longtail.evaluation.calibration import Reliability
from longtail.report.palette import GROUP_DASHES, GROUP_MARKERS, INK, MUTED
from longtail.report.style import Array, drawing, group_colour, percent_axis, to_svg

FEWEST = 5  # images of a bin that is drawn: of fewer, the accuracy is chance


def reliability_figure(bins: Mapping[str, Reliability], note: str = "") -> str:
    """What share of the images is recognised at each level of confidence, overall and for each group.

    Args:
        bins: by "all" and the names of the groups; groups without images are left out, and bins with fewer than 5.
        note: a warning to write below.

    Example:
        >>> import torch
        >>> from longtail.evaluation.calibration import reliability
        >>> found = reliability(torch.tensor([0.9] * 6), torch.tensor([True, False] * 3))
        >>> "ECE 40.00 %" in reliability_figure({"all": found})
        True
    """
    with drawing(height=4.8) as figure:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1)
        for name, found in bins.items():
            if found.ece is not None:
                _draw_reliability(axes, name, found, found.ece)
        axes.text(3, 97, "under-confident", color=MUTED, va="top", fontstyle="italic")
        axes.text(97, 3, "over-confident", color=MUTED, ha="right", fontstyle="italic")
        percent_axis(axes, "confidence (%)", "x")
        percent_axis(axes, "accuracy (%)")
        axes.set_aspect("equal")
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=2)
        return to_svg(figure, "reliability", note)


def _draw_reliability(axes: Axes, name: str, found: Reliability, ece: float) -> None:
    filled_K = found.count >= FEWEST
    x, y = found.confidence[filled_K].numpy(), found.accuracy[filled_K].numpy()
    colour, dash = group_colour(name), GROUP_DASHES.get(name, "-")
    label = f"{name}-shot" if name in GROUP_DASHES else "all images"
    marker = GROUP_MARKERS.get(name, "D")
    axes.plot(x, y, dash, color=colour, linewidth=1.6, marker=marker, ms=0, label=f"{label}, ECE {ece:.2f} %")
    # a bin of three images says little: let its mark be small
    sizes = 90 * (found.count[filled_K] / found.count.sum()).sqrt().numpy()
    axes.scatter(x, y, sizes, color=colour, marker=marker, linewidths=0, zorder=3, clip_on=False)


def margins_figure(margins: Mapping[str, Array], note: str = "") -> str:
    """How clearly images of each group are told from the next best class: the spread of their margins.

    Args:
        margins: for each group the margin of each of its M images: logit of the true class less the largest other.
        note: a warning to write below.

    Example:
        >>> "50 % right" in margins_figure({"few": np.array([-1.0, 1.0])})
        True
    """
    everything = np.concatenate(list(margins.values()))
    finite = everything[np.isfinite(everything)]
    low, high = np.quantile(finite, (0.002, 0.998)) if len(finite) else (-1.0, 1.0)
    smallest = min(map(len, margins.values()))
    # few images make a ragged picture in many bins; zero is an edge, so that no bar mixes right and wrong
    step = max(high - low, 1e-3) / min(60, max(12, 2 * math.isqrt(smallest)))
    edges = step * np.arange(min(math.floor(low / step), -1), max(math.ceil(high / step), 1) + 1)
    with drawing(height=0.8 + 1.1 * len(margins)) as figure:
        rows = figure.subplots(len(margins), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, margins_M) in zip(rows, margins.items(), strict=True):
            # every image counts: those beyond the picture stand at its edge
            heights, _ = np.histogram(margins_M.clip(edges[0], edges[-1]), edges)
            _draw_margins(axes, name, heights / len(margins_M), edges, float((margins_M > 0).mean()))
        rows[-1].set_xlabel("margin: logit of the true class less the largest other")
        return to_svg(figure, "margins", note)


def _draw_margins(axes: Axes, name: str, shares_K: Array, edges: Array, right: float) -> None:
    colour = group_colour(name)
    axes.stairs(shares_K, edges, fill=True, color=colour, alpha=0.3)
    axes.stairs(shares_K, edges, color=colour, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(yticks=[], xlim=(edges[0], edges[-1]), ylim=(0, 1.3 * max(shares_K)))
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{name}-shot" if name in GROUP_DASHES else name, color=INK)
    axes.text(0.995, 0.95, f"{100 * right:.0f} % right", ha="right", va="top", transform=axes.transAxes)
    axes.text(0.005, 0.95, f"{100 - 100 * right:.0f} % wrong", va="top", transform=axes.transAxes, color=MUTED)


def training_figure(log: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """Training loss, accuracy where it was measured, and learning rate, epoch by epoch.

    Args:
        log: a mapping per epoch with "stage", "loss", "lr" and, where measured, "val" (or under the paper protocol
            "test") with "top1" and "balanced".
        note: a warning to write below.

    Example:
        >>> log = [{"stage": "train", "loss": 2.0, "lr": 0.1}, {"stage": "train", "loss": 1.0, "lr": 0.0}]
        >>> "learning rate" in training_figure(log)
        True
    """
    panels = {"training loss": {"loss": _series(log, "loss")}}
    for part, title in (("val", "accuracy on the held-out part (%)"), ("test", "accuracy on the test set (%)")):
        found = {"all images": _series(log, part, "top1"), "mean of classes": _series(log, part, "balanced")}
        panels[title] = {name: values_E for name, values_E in found.items() if not np.isnan(values_E).all()}
    panels = {title: found for title, found in panels.items() if found}
    panels |= {"learning rate": {"rate": _series(log, "lr")}}
    stages = [line.get("stage") for line in log]
    starts = [epoch for epoch in range(1, len(log)) if stages[epoch] != stages[epoch - 1]]
    with drawing(height=0.6 + 1.4 * len(panels)) as figure:
        rows = figure.subplots(len(panels), 1, sharex=True)
        for axes, (title, curves) in zip(rows, panels.items(), strict=True):
            _draw_curves(axes, curves, [0, *starts, len(log)])
            axes.set(title=title, xlim=(0.5, len(log) + 0.5))
            for start in starts:
                axes.axvline(start + 0.5, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        rows[-1].set_xlabel("epoch")
        rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        return to_svg(figure, "training", note)


def _draw_curves(axes: Axes, curves: Mapping[str, Array], limits: Sequence[int]) -> None:
    """Lines that are broken between stages, whose losses are not the same quantity."""
    for (name, values_E), dash in zip(curves.items(), ("-", "--"), strict=False):
        for start, end in itertools.pairwise(limits):
            epochs = start + np.flatnonzero(~np.isnan(values_E[start:end]))
            marker = "o" if len(epochs) < max(3, end - start) else ""
            label = name if start == 0 else None
            axes.plot(epochs + 1, values_E[epochs], dash, marker=marker, markersize=4, color=INK, label=label)
    axes.set_ylim(bottom=0)
    if len(curves) > 1:
        axes.legend(loc="lower right")


def _series(log: Sequence[Mapping[str, Any]], *path: str) -> Array:
    """One number per epoch, NaN where it is missing or not finite. Shape (E,)."""
    return np.array([_number(line, path) for line in log], float)


def _number(line: Any, path: tuple[str, ...]) -> float:
    for key in path:
        line = line.get(key) if isinstance(line, Mapping) else None
    return float(line) if isinstance(line, (int, float)) and math.isfinite(line) else math.nan
