"""Figures of what each class and each group gets, as SVG text.

Many, medium and few keep their three colours throughout, classes run from the most training images to the fewest.

Shapes: N = test images, C = classes, S = side of a confusion matrix after binning.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.lines import Line2D
from torch import Tensor

from longtail.report.classes import Classes
from longtail.report.palette import GROUP_COLOURS, GROUP_MARKERS, INK, MUTED
from longtail.report.style import (
    Array,
    drawing,
    group_colour,
    percent_axis,
    plain_log,
    plain_numbers,
    shortened,
    to_svg,
)

NAMED_CLASSES = 20  # with more, an axis shows ranks instead of names
MAX_CELLS = 200  # side of the largest confusion matrix that is drawn class by class
MAX_POINTS = 500  # more classes than this are averaged with their neighbours
_CELL_PIXELS = 1000  # side of the embedded confusion image: enough that a browser's smoothing stays unseen


def counts_figure(classes: Classes, per_class: Sequence[float | None], note: str = "") -> str:
    """Training images of each class above its accuracy, with a smoothed trend.

    Args:
        classes: C classes.
        per_class: accuracy of each in percent; None where the test has no image of it.
        note: a warning to write below.

    Example:
        >>> classes = Classes.grouped(("a", "b"), torch.tensor([200, 2]))
        >>> counts_figure(classes, [90.0, None]).startswith("<svg")
        True
    """
    counts_C = classes.counts[classes.order].numpy()
    accuracy_C = np.array([np.nan if per_class[c] is None else per_class[c] for c in classes.order.tolist()], float)
    groups_C = np.array([classes.group_names[c] for c in classes.order.tolist()])
    with drawing(height=4.6) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
        _draw_counts(above, counts_C, groups_C)
        _draw_accuracy(below, accuracy_C, groups_C)
        _class_axis(below, classes)
        handles = [_group_handle(name) for name in classes.filled]
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
        return to_svg(figure, "counts", note)


def _draw_counts(axes: Axes, counts_C: Array, groups_C: Array) -> None:
    ranks_C = np.arange(1, len(counts_C) + 1)
    floor = 0.7 * max(1, counts_C[counts_C > 0].min())
    plain_log(axes, floor, 1.3 * counts_C.max())
    for name in dict.fromkeys(groups_C):
        own_C = groups_C == name
        if len(counts_C) <= NAMED_CLASSES:
            axes.bar(ranks_C[own_C], counts_C[own_C], 0.75, color=group_colour(name))
        else:
            steps = np.flatnonzero(np.diff(counts_C[own_C], prepend=-1))  # one stair for all classes of a count
            edges = np.append(ranks_C[own_C][steps], ranks_C[own_C][-1] + 1) - 0.5
            axes.stairs(counts_C[own_C][steps], edges, baseline=floor, fill=True, color=group_colour(name))
    axes.set_ylabel("training images")


def _draw_accuracy(axes: Axes, accuracy_C: Array, groups_C: Array) -> None:
    ranks_C = np.arange(1, len(accuracy_C) + 1)
    known_C = ~np.isnan(accuracy_C)
    for name in dict.fromkeys(groups_C):
        own_C = (groups_C == name) & known_C
        x, y = ranks_C[own_C], accuracy_C[own_C]
        if len(accuracy_C) <= NAMED_CLASSES:
            axes.bar(x, y, 0.75, color=group_colour(name))
            for rank, value in zip(x, y, strict=True):
                axes.annotate(f"{value:.0f}", (rank, value), (0, 2), textcoords="offset points", ha="center", size=9)
            continue
        pieces = max(1, round(len(x) * 80 / len(accuracy_C))) if len(accuracy_C) > MAX_POINTS else max(1, len(x))
        x, y = (np.array([part.mean() for part in np.array_split(v, pieces) if len(part)]) for v in (x, y))
        axes.plot(x, y, GROUP_MARKERS[name], color=group_colour(name), ms=4, mew=0, alpha=0.75, clip_on=False)
    if len(accuracy_C) > NAMED_CLASSES and known_C.any():
        axes.plot(ranks_C, smoothed(accuracy_C), color=INK, label="smoothed")
        axes.legend(loc="upper right")
    percent_axis(axes, "accuracy (%)")
    if len(accuracy_C) <= NAMED_CLASSES:
        axes.set_ylim(0, 115)  # room for the number above a full bar, below the other panel


def smoothed(values_C: Array) -> Array:
    """Gaussian running mean over a twentieth of the classes to each side, blind to classes without a value.

    Args:
        values_C: of each class, in the order in which they are drawn; NaN where there is none.

    Returns:
        Shape (C,); NaN where no class within reach has a value.

    Example:
        >>> smoothed(np.array([1.0, np.nan, 3.0]))[1]
        np.float64(2.0)
    """
    bandwidth = max(1.0, len(values_C) / 20)
    reach = np.arange(-int(3 * bandwidth), int(3 * bandwidth) + 1)
    kernel = np.exp(-0.5 * (reach / bandwidth) ** 2)
    known_C = ~np.isnan(values_C)
    middle = slice(len(reach) // 2, len(reach) // 2 + len(values_C))
    weight_C = np.convolve(known_C, kernel)[middle]
    total_C = np.convolve(np.where(known_C, values_C, 0.0), kernel)[middle]
    smoothed_C: Array = np.divide(total_C, weight_C, out=np.full(len(values_C), np.nan), where=weight_C > 1e-9)
    return smoothed_C


def _class_axis(axes: Axes, classes: Classes) -> None:
    axes.set_xlim(0.4, len(classes) + 0.6)
    if len(classes) <= NAMED_CLASSES:
        names = [shortened(classes.names[c]) for c in classes.order.tolist()]
        turned = max(map(len, names)) * len(names) > 60
        axes.set_xticks(range(1, len(names) + 1), names, rotation=90 if turned else 0)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("class, by number of training images (rank)")
        axes.xaxis.set_major_formatter(plain_numbers())


def _group_handle(name: str) -> Line2D:
    return Line2D([], [], color=group_colour(name), marker=GROUP_MARKERS[name], linestyle="none", label=f"{name}-shot")


def groups_figure(classes: Classes, values: Mapping[str, float | None], note: str = "") -> str:
    """Accuracy over all test images, over all classes, and within each group, as bars.

    Args:
        classes: C classes.
        values: percent by "top1", "balanced", "many", "medium" and "few"; None for an empty group.
        note: a warning to write below.

    Example:
        >>> classes = Classes.grouped(("a", "b"), torch.tensor([200, 2]))
        >>> scores = {"top1": 70.0, "balanced": 70.0, "many": 90.0, "medium": None, "few": 50.0}
        >>> "no class" in groups_figure(classes, scores)
        True
    """
    labels = {"top1": "all images", "balanced": "mean of classes"}
    labels |= {name: f"{name}-shot" for name in classes.masks}
    with drawing(height=2.7) as figure:
        axes = figure.subplots()
        for row, key in enumerate(labels):
            value = values.get(key)
            axes.barh(row, value or 0.0, 0.68, color=GROUP_COLOURS.get(key, MUTED))
            text = "no class" if value is None else f"{value:.1f}"
            axes.text(102, row, text, va="center", fontweight="bold")
        axes.set_yticks(range(len(labels)), list(labels.values()))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        percent_axis(axes, "accuracy (%)", "x")
        return to_svg(figure, "groups", note)


def confusion_figure(classes: Classes, predicted_N: Tensor, targets_N: Tensor, note: str = "") -> str:
    """Confusion matrix with the fullest class first, in percent of the images of each true class.

    More than 200 classes are binned with their neighbours: a cell then is the share of a bin's images.

    Args:
        classes: C classes.
        predicted_N: predicted classes.
        targets_N: true classes.
        note: a warning to write below.

    Example:
        >>> classes = Classes.grouped(("a", "b"), torch.tensor([200, 2]))
        >>> "<image" in confusion_figure(classes, torch.tensor([0, 0]), torch.tensor([0, 1]))
        True
    """
    side = min(len(classes), MAX_CELLS)
    shares_SS = confusion_shares(classes, predicted_N, targets_N, side)
    with drawing(height=4.8) as figure:
        axes = figure.subplots()
        pixels = -(-_CELL_PIXELS // side)
        image = np.kron(np.nan_to_num(shares_SS), np.ones((pixels, pixels)))
        extent = (0.5, len(classes) + 0.5, len(classes) + 0.5, 0.5)
        # a root scale: mistakes of a few percent are what one looks for
        axes.imshow(image, _FADE, PowerNorm(0.5, 0, 100), extent=extent, interpolation="none")
        _confusion_axes(axes, classes)
        if len(classes) <= NAMED_CLASSES:
            _write_cells(axes, shares_SS)
        _fade_scale(axes)
        return to_svg(figure, "confusion", note)


# from nothing to full blue, so that it lies well on a light page and on a dark one
_FADE = LinearSegmentedColormap.from_list("fade", [(0, 0.447, 0.698, 0.0), (0, 0.447, 0.698, 1.0)])


def confusion_shares(classes: Classes, predicted_N: Tensor, targets_N: Tensor, side: int) -> Array:
    """Shares in percent of each row's images, of `side` bins of neighbouring classes; NaN in a row without images.

    Returns:
        Shape (S, S): true class by predicted class, the fullest first.

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
    start = 0
    for name in classes.filled:
        end = start + int(classes.masks[name].sum())
        middle = (start + end) / 2 + 0.5
        if end - start >= len(classes) / 12:  # else the word is longer than its span
            axes.annotate(
                name, (middle, 1), (0, 4), ("data", "axes fraction"), "offset points", ha="center", color=MUTED
            )
        if end < len(classes):
            axes.axhline(end + 0.5, color=INK, linewidth=0.8)
            axes.axvline(end + 0.5, color=INK, linewidth=0.8)
        start = end


def _fade_scale(axes: Axes) -> None:
    """The colour scale; drawn by hand, as a colorbar's cells would show their seams where they are see-through."""
    scale = axes.inset_axes((1.04, 0.15, 0.03, 0.7))
    scale.imshow(np.linspace(1, 0, 256)[:, None], _FADE, extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
    ticks = [0, 1, 5, 20, 50, 100]
    scale.set_yticks([math.sqrt(tick / 100) for tick in ticks], [str(tick) for tick in ticks])
    scale.set(xticks=[], ylabel="share of the true class (%)")
    scale.grid(visible=False)
    scale.spines[:].set_visible(False)
    scale.yaxis.set_ticks_position("right")
    scale.yaxis.set_label_position("right")


def _write_cells(axes: Axes, shares_SS: Array) -> None:
    for (row, column), share in np.ndenumerate(shares_SS):
        if share >= 0.5:
            colour = "white" if share > 55 else INK
            axes.text(column + 1, row + 1, f"{share:.0f}", ha="center", va="center", size=9, color=colour)
