"""Every chart of the pages, as SVG text. Classes are ordered from the most to the least frequent.

Shapes: N = test images, M = test images of a group, C = classes, S = side of a binned confusion matrix,
K = bins, E = epochs.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from longtail.evaluation import Reliability
from longtail.report.classes import Classes
from longtail.report.style import (
    GAIN,
    GROUP_COLORS,
    GROUP_DASHES,
    GROUP_MARKERS,
    INK,
    LOSS,
    MUTED,
    NAMED_CLASSES,
    PALETTE,
    Array,
    class_axis,
    drawing,
    group_color,
    group_spans,
    in_order,
    means,
    neighbors,
    percent_axis,
    plain_log,
    plain_numbers,
    shortened,
    smoothed,
    to_svg,
)

MAX_CELLS = 200
"""Side of the largest confusion matrix that is drawn class by class."""
MAX_POINTS = 500
"""More classes than this are averaged with their neighbors."""
MIN_BIN = 5
"""Images of the smallest bin that a reliability diagram draws."""

_BINS = 24  # points of a line in a comparison
_CELL_PIXELS = 1000  # side of the embedded confusion image, so that a browser's smoothing is invisible
# transparent to blue, so that it suits a light page and a dark one
_FADE = LinearSegmentedColormap.from_list("fade", [(0, 0.447, 0.698, 0.0), (0, 0.447, 0.698, 1.0)])
# color, dash and marker of each run of a comparison, distinct in black and white too
_LINES = tuple(zip((INK, *PALETTE[:6], MUTED), ["-", "-", "--", "-.", ":", "--", "-.", ":"], "os^DvPX*", strict=True))


def counts_chart(classes: Classes, per_class: Sequence[float | None], note: str = "") -> str:
    """Draw the training images of each class above its accuracy.

    Args:
        classes: C classes.
        per_class: Accuracy of each class in percent; None without test images.
        note: Warning written below.
    """
    counts_C = classes.counts[classes.order].numpy()
    accuracy_C = in_order(classes, per_class)
    groups_C = np.array(classes.group_names)[classes.order.numpy()]
    with drawing(height=4.6) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        _draw_counts(above, counts_C, groups_C)
        _draw_accuracy(below, accuracy_C, groups_C)
        class_axis(below, classes)
        handles = [
            Line2D([], [], color=group_color(g), marker=GROUP_MARKERS[g], linestyle="none", label=f"{g}-shot")
            for g in classes.filled
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        return to_svg(figure, "counts", note)


def _draw_counts(axes: Axes, counts_C: Array, groups_C: Array) -> None:
    ranks_C = np.arange(1, len(counts_C) + 1)
    floor = 0.7 * max(1, counts_C[counts_C > 0].min())
    plain_log(axes, floor, 1.3 * counts_C.max())
    for name in dict.fromkeys(groups_C):
        own_C = groups_C == name
        if len(counts_C) <= NAMED_CLASSES:
            axes.bar(ranks_C[own_C], counts_C[own_C], 0.75, color=group_color(name))
        else:
            steps = np.flatnonzero(np.diff(counts_C[own_C], prepend=-1))  # one step for all classes of a count
            edges = np.append(ranks_C[own_C][steps], ranks_C[own_C][-1] + 1) - 0.5
            axes.stairs(counts_C[own_C][steps], edges, baseline=floor, fill=True, color=group_color(name))
    axes.set_ylabel("training images")


def _draw_accuracy(axes: Axes, accuracy_C: Array, groups_C: Array) -> None:
    ranks_C = np.arange(1, len(accuracy_C) + 1)
    known_C = ~np.isnan(accuracy_C)
    for name in dict.fromkeys(groups_C):
        own_C = (groups_C == name) & known_C
        x, y = ranks_C[own_C], accuracy_C[own_C]
        if len(accuracy_C) <= NAMED_CLASSES:
            axes.bar(x, y, 0.75, color=group_color(name))
            for rank, value in zip(x, y, strict=True):
                axes.annotate(f"{value:.0f}", (rank, value), (0, 2), textcoords="offset points", ha="center", size=9)
            continue
        pieces = max(1, round(len(x) * 80 / len(accuracy_C))) if len(accuracy_C) > MAX_POINTS else max(1, len(x))
        x, y = (np.array([part.mean() for part in np.array_split(v, pieces) if len(part)]) for v in (x, y))
        axes.plot(x, y, GROUP_MARKERS[name], color=group_color(name), ms=4, mew=0, alpha=0.75, clip_on=False)
    if len(accuracy_C) > NAMED_CLASSES and known_C.any():
        axes.plot(ranks_C, smoothed(accuracy_C), color=INK, label="smoothed")
        axes.legend(loc="upper right")
    percent_axis(axes, "accuracy (%)")
    if len(accuracy_C) <= NAMED_CLASSES:
        axes.set_ylim(0, 115)  # room for the number above a full bar, below the other panel


def groups_chart(classes: Classes, values: Mapping[str, float | None], note: str = "") -> str:
    """Draw the accuracy over all test images, over all classes, and of each group as bars.

    Args:
        classes: C classes.
        values: Percentages of "top1", "balanced", "many", "medium" and "few"; None for an empty group.
        note: Warning written below.
    """
    labels = {"top1": "all images", "balanced": "mean of classes"}
    labels |= {name: f"{name}-shot" for name in classes.masks}
    with drawing(height=2.7) as figure:
        axes = figure.subplots()
        for row, key in enumerate(labels):
            value = values.get(key)
            axes.barh(row, value or 0.0, 0.68, color=GROUP_COLORS.get(key, MUTED))
            text = "no class" if value is None else f"{value:.1f}"
            axes.text(102, row, text, va="center", fontweight="bold")
        axes.set_yticks(range(len(labels)), list(labels.values()))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        percent_axis(axes, "accuracy (%)", "x")
        return to_svg(figure, "groups", note)


def confusion_chart(classes: Classes, predicted_N: Tensor, targets_N: Tensor, note: str = "") -> str:
    """Draw the confusion matrix in percent of each true class, binned if there are more than 200 classes.

    Args:
        classes: C classes.
        predicted_N: Predicted classes.
        targets_N: True classes.
        note: Warning written below.
    """
    side = min(len(classes), MAX_CELLS)
    shares_SS = confusion_shares(classes, predicted_N, targets_N, side)
    with drawing(height=4.8) as figure:
        axes = figure.subplots()
        pixels = -(-_CELL_PIXELS // side)
        image = np.kron(np.nan_to_num(shares_SS), np.ones((pixels, pixels)))
        extent = (0.5, len(classes) + 0.5, len(classes) + 0.5, 0.5)
        # a root scale makes mistakes of a few percent visible
        axes.imshow(image, _FADE, PowerNorm(0.5, 0, 100), extent=extent, interpolation="none")
        _confusion_axes(axes, classes)
        if len(classes) <= NAMED_CLASSES:
            for (row, column), share in np.ndenumerate(shares_SS):
                if share >= 0.5:
                    color = "white" if share > 55 else INK
                    axes.text(column + 1, row + 1, f"{share:.0f}", ha="center", va="center", size=9, color=color)
        _fade_scale(axes)
        return to_svg(figure, "confusion", note)


def confusion_shares(classes: Classes, predicted_N: Tensor, targets_N: Tensor, side: int) -> Array:
    """Compute the confusion matrix of `side` bins of neighboring classes, in percent of the images of each row.

    Returns:
        Shape (S, S): true by predicted class, the most frequent class first; NaN in a row without images.

    Example:
        >>> classes = Classes.grouped(("a", "b"), torch.tensor([2, 200]))
        >>> confusion_shares(classes, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), side=2)
        array([[100.,   0.],
               [ 50.,  50.]])
    """
    bin_C = torch.empty(len(classes), dtype=torch.long)
    bin_C[classes.order] = torch.arange(len(classes)) * side // len(classes)
    cells_N = bin_C[targets_N] * side + bin_C[predicted_N]
    images_SS = torch.bincount(cells_N, minlength=side * side).reshape(side, side).double()
    shares: Array = (100 * images_SS / images_SS.sum(1, keepdim=True)).numpy()
    return shares


def _confusion_axes(axes: Axes, classes: Classes) -> None:
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
    if len(classes) <= NAMED_CLASSES:
        names = [shortened(classes.names[c]) for c in classes.order.tolist()]
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.tick_params(length=0)
    else:
        axes.xaxis.set_major_formatter(plain_numbers())
        axes.yaxis.set_major_formatter(plain_numbers())
    for name, start, end in group_spans(classes):
        if end - start >= len(classes) / 12:  # room for the word
            place = ((start + end) / 2 + 0.5, 1)
            axes.annotate(name, place, (0, 4), ("data", "axes fraction"), "offset points", ha="center", color=MUTED)
        if end < len(classes):
            axes.axhline(end + 0.5, color=INK, linewidth=0.8)
            axes.axvline(end + 0.5, color=INK, linewidth=0.8)


def _fade_scale(axes: Axes) -> None:
    """Draw the color scale as an image: the cells of a transparent colorbar would show their seams."""
    scale = axes.inset_axes((1.04, 0.15, 0.03, 0.7))
    scale.imshow(np.linspace(1, 0, 256)[:, None], _FADE, extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
    ticks = [0, 1, 5, 20, 50, 100]
    scale.set_yticks([math.sqrt(tick / 100) for tick in ticks], [str(tick) for tick in ticks])
    scale.set(xticks=[], ylabel="share of the true class (%)")
    scale.grid(visible=False)
    scale.spines[:].set_visible(False)
    scale.yaxis.set_ticks_position("right")
    scale.yaxis.set_label_position("right")


def reliability_chart(bins: Mapping[str, Reliability], note: str = "") -> str:
    """Draw accuracy against confidence, for all images and for each group.

    Args:
        bins: Bins of "all" and of the groups. Groups without images and bins with fewer than 5 images are omitted.
        note: Warning written below.
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
    shown_K = found.count >= MIN_BIN
    x, y = found.confidence[shown_K].numpy(), found.accuracy[shown_K].numpy()
    color, dash, marker = group_color(name), GROUP_DASHES.get(name, "-"), GROUP_MARKERS.get(name, "D")
    label = f"{name}-shot" if name in GROUP_DASHES else "all images"
    axes.plot(x, y, dash, color=color, linewidth=1.6, marker=marker, ms=0, label=f"{label}, ECE {ece:.2f} %")
    sizes = 90 * (found.count[shown_K] / found.count.sum()).sqrt().numpy()
    axes.scatter(x, y, sizes, color=color, marker=marker, linewidths=0, zorder=3, clip_on=False)


def margins_chart(margins: Mapping[str, Array], note: str = "") -> str:
    """Draw the distribution of the logit margins of each group.

    Args:
        margins: Margins of the M images of each group: logit of the true class minus the largest other logit.
        note: Warning written below.
    """
    everything = np.concatenate(list(margins.values()))
    finite = everything[np.isfinite(everything)]
    low, high = np.quantile(finite, (0.002, 0.998)) if len(finite) else (-1.0, 1.0)
    smallest = min(map(len, margins.values()))
    # fewer bins for few images; zero is an edge, so that no bar mixes right and wrong
    step = max(high - low, 1e-3) / min(60, max(12, 2 * math.isqrt(smallest)))
    edges = step * np.arange(min(math.floor(low / step), -1), max(math.ceil(high / step), 1) + 1)
    with drawing(height=0.8 + 1.1 * len(margins)) as figure:
        rows = figure.subplots(len(margins), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, margins_M) in zip(rows, margins.items(), strict=True):
            # images beyond the range are counted at its ends
            heights, _ = np.histogram(margins_M.clip(edges[0], edges[-1]), edges)
            _draw_margins(axes, name, heights / len(margins_M), edges, float((margins_M > 0).mean()))
        rows[-1].set_xlabel("margin: logit of the true class minus the largest other logit")
        return to_svg(figure, "margins", note)


def _draw_margins(axes: Axes, name: str, shares_K: Array, edges: Array, right: float) -> None:
    color = group_color(name)
    axes.stairs(shares_K, edges, fill=True, color=color, alpha=0.3)
    axes.stairs(shares_K, edges, color=color, linewidth=1.4)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set(yticks=[], xlim=(edges[0], edges[-1]), ylim=(0, 1.3 * max(shares_K)))
    axes.spines["left"].set_visible(False)
    axes.set_title(f"{name}-shot" if name in GROUP_DASHES else name, color=INK)
    axes.text(0.995, 0.95, f"{100 * right:.0f} % right", ha="right", va="top", transform=axes.transAxes)
    axes.text(0.005, 0.95, f"{100 - 100 * right:.0f} % wrong", va="top", transform=axes.transAxes, color=MUTED)


def training_chart(log: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """Draw training loss, measured accuracy and learning rate by epoch.

    Args:
        log: One mapping per epoch with "stage", "loss", "lr" and, if measured, "val" (with the paper protocol "test")
            with "top1" and "balanced".
        note: Warning written below.
    """
    panels = {"training loss": {"loss": _series(log, "loss")}}
    for part, title in (("val", "accuracy on the validation split (%)"), ("test", "accuracy on the test split (%)")):
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
    """Draw lines with a gap between stages, whose losses are different quantities."""
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
    """Return one number per epoch, NaN if missing or not finite. Shape (E,)."""
    return np.array([_number(line, path) for line in log], float)


def _number(line: Any, path: tuple[str, ...]) -> float:
    for key in path:
        line = line.get(key) if isinstance(line, Mapping) else None
    return float(line) if isinstance(line, (int, float)) and math.isfinite(line) else math.nan


def accuracy_chart(classes: Classes, accuracies: Mapping[str, Sequence[float | None]]) -> str:
    """Draw the accuracy of several runs along the classes.

    Args:
        classes: C classes.
        accuracies: Accuracy of each class in percent, by the label of the run; at most eight runs.
    """
    parts = neighbors(classes, _BINS if len(classes) > NAMED_CLASSES else len(classes))
    with drawing(height=3.6) as figure:
        axes = figure.subplots()
        for (label, per_class), (color, dash, marker) in zip(accuracies.items(), _LINES, strict=False):
            x, y = means(parts, in_order(classes, per_class))
            axes.plot(x, y, dash, color=color, marker=marker, ms=4.5, lw=1.5, clip_on=False, label=shortened(label, 40))
        percent_axis(axes, "accuracy (%)")
        class_axis(axes, classes, groups=True)
        figure.legend(loc="outside upper left", ncols=4 if all(len(label) <= 12 for label in accuracies) else 2)
        return to_svg(figure, "accuracy")


def change_chart(
    classes: Classes, before: Sequence[float | None], after: Sequence[float | None], name: str = "change"
) -> str:
    """Draw an arrow for each class, from its accuracy in one run to its accuracy in another.

    Args:
        classes: C classes.
        before: Accuracy of each class in the reference run, in percent.
        after: Accuracy of each class in the other run, in percent.
        name: Prefix of the identifiers, unique among the charts of a page.
    """
    parts = neighbors(classes, min(MAX_POINTS, len(classes)))
    x, start = means(parts, in_order(classes, before))
    _, end = means(parts, in_order(classes, after))
    with drawing(height=3.6) as figure:
        axes = figure.subplots()
        for own, color, marker, label in ((end > start, GAIN, "^", "better"), (end < start, LOSS, "v", "worse")):
            axes.vlines(x[own], start[own], end[own], color=color, linewidth=max(0.6, 2 - len(x) / 200))
            size = 5.5 if len(x) <= 100 else 3.5
            axes.plot(
                x[own], end[own], marker, color=color, ms=size, mew=0, clip_on=False, label=f"{label} ({own.sum():,})"
            )
        same = start == end
        axes.plot(x[same], end[same], "o", color=MUTED, ms=3, mew=0, clip_on=False, label=f"the same ({same.sum():,})")
        percent_axis(axes, "accuracy (%)")
        class_axis(axes, classes, groups=True)
        figure.legend(loc="outside upper left", ncols=3)
        return to_svg(figure, name)
