"""Distributions of a value per image for a few classes: logit margins and intra-class distances.

"ELM: Embedding and Logit Margins for Long-Tail Learning" (2022): Figures 3 (histograms) and 6 (cumulative) show the
margin f_y - max_{j != y} f_j of one head, one torso and one tail class; an image with a margin above zero is classified
correctly. Figure 4 shows d_max(x) = max over x+ of the class of ||Phi(x) - Phi(x+)||, over the largest norm of all
embeddings. The paper does not state whether Figure 4 uses training or test images.
Shapes: N = images of one class.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.geometry import empirical_cdf, logit_margins, max_intra_class_distances
from longtail.papers.plot import Plot, Table, legend_height, looks, run_legend
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
from longtail.report.classes import Classes
from longtail.report.style import MUTED, Array
from longtail.report.wording import several

BINS = 24
MOST_PANELS = 6
Values = Mapping[str, Mapping[str, Tensor]]
"""Values (N,) by the title of a panel and by the label of a run."""


def margin_histograms(runs: Runs, *, part: PartName = "test", classes: Sequence[str] | None = None) -> Plot:
    """Draw histograms of the logit margins of a few classes.

    Args:
        runs: 1 to 10 runs.
        part: "test" or "train" images.
        classes: Names of the classes. Default: the median class by count of each group.

    Raises:
        InputError: If the runs are not comparable, a class is unknown, or a class has no image.
    """
    return _margins(runs, part, classes, cumulative=False)


def margin_cdfs(runs: Runs, *, part: PartName = "test", classes: Sequence[str] | None = None) -> Plot:
    """Draw cumulative distributions of the logit margins of a few classes.

    Args:
        runs: 1 to 10 runs.
        part: "test" or "train" images.
        classes: Names of the classes. Default: the median class by count of each group.

    Raises:
        InputError: If the runs are not comparable, a class is unknown, or a class has no image.
    """
    return _margins(runs, part, classes, cumulative=True)


def _margins(runs: Runs, part: PartName, names: Sequence[str] | None, *, cumulative: bool) -> Plot:
    check_comparable(runs)
    known = classes_of(first_of(runs))
    titles = _titles(chosen_labels(names, known), known)
    values: dict[str, dict[str, Tensor]] = {title: {} for title in titles.values()}
    for name, run in runs.items():
        logits_NC, targets_N = logits_of(run, part)
        margins_N = logit_margins(logits_NC, targets_N)
        for label, title in titles.items():
            values[title][name] = margins_N[targets_N == label]
    axis_label = "logit margin (true class minus best other)"
    note = note_of(runs, f"{part} images")
    return distributions(values, "margin", axis_label, cumulative=cumulative, zero=True, note=note)


def intra_class_distances(runs: Runs, *, part: PartName = "train", classes: Sequence[str] | None = None) -> Plot:
    """Draw histograms of the distance from each image to the farthest image of its class.

    Args:
        runs: 1 to 10 runs.
        part: "train" or "test" images.
        classes: Names of the classes. Default: the median class by count of each group.

    Raises:
        InputError: If the runs are not comparable, a class is unknown, or a class has fewer than two images.
    """
    check_comparable(runs)
    known = classes_of(first_of(runs))
    titles = _titles(chosen_labels(classes, known), known)
    values: dict[str, dict[str, Tensor]] = {title: {} for title in titles.values()}
    for name, run in runs.items():
        found = outputs_of(run, part)
        farthest_N = max_intra_class_distances(found.embeddings_ND, found.targets_N)
        for label, title in titles.items():
            own_M = farthest_N[found.targets_N == label]
            values[title][name] = own_M[~own_M.isnan()]  # NaN: the only image of its class
    axis_label = "largest distance within the class, over the largest norm"
    return distributions(values, "distance", axis_label, cumulative=False, note=note_of(runs, f"{part} images"))


def chosen_labels(names: Sequence[str] | None, classes: Classes) -> list[int]:
    """Return the classes of the panels: the named ones, or the median class by count of each group.

    Args:
        names: Names of classes, or None.
        classes: All classes.

    Raises:
        InputError: If a class is unknown, or there are more classes than panels.

    Example:
        >>> import torch
        >>> chosen_labels(None, Classes.grouped(("cat", "dog", "eel"), torch.tensor([300, 50, 5])))
        [0, 1, 2]
    """
    if names is not None:
        if not 1 <= len(names) <= MOST_PANELS:
            raise InputError(f"`classes` must have 1 to {MOST_PANELS} names, got {len(names)}")
        return labels_of(names, classes)
    medians = []
    for group in classes.filled:
        members = [label for label in classes.order.tolist() if classes.masks[group][label]]
        medians.append(members[len(members) // 2])
    return medians


def panel_title(label: int, classes: Classes) -> str:
    r"""Return the title of a class's panel: name, group and number of training images.

    Args:
        label: Label of the class.
        classes: All classes.

    Example:
        >>> import torch
        >>> panel_title(1, Classes.grouped(("cat", "dog"), torch.tensor([300, 1500])))
        'dog\nmany, 1,500 images'
    """
    name = " ".join(classes.names[label].split())
    shown = name if len(name) <= 22 else name[:21] + "…"
    return f"{shown}\n{classes.group_names[label]}, {int(classes.counts[label]):,} images"


def _titles(labels: Sequence[int], classes: Classes) -> dict[int, str]:
    titles = {label: panel_title(label, classes) for label in labels}
    if len(set(titles.values())) < len(labels):
        raise InputError("`classes` has two names that are equal when shortened; choose other classes")
    return titles


def distributions(
    values: Values, quantity: str, axis_label: str, *, cumulative: bool, zero: bool = False, note: str = ""
) -> Plot:
    """Draw a panel for each class and a line for each run.

    Args:
        values: Values by panel and run.
        quantity: Name of the value in the table.
        axis_label: Label of the horizontal axis, with the unit.
        cumulative: Whether to draw cumulative distributions instead of histograms.
        zero: Whether to mark zero.
        note: Note below the figure.

    Raises:
        InputError: If a class has no image.
    """
    for title, of_runs in values.items():
        if any(not len(values_N) for values_N in of_runs.values()):
            raise InputError(f"{_name(title)} has too few images; choose other `classes` or the other `part`")
    runs = list(next(iter(values.values())))
    looks(len(runs))  # raises if there are too many

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(values), sharey=True, sharex=True, squeeze=False)[0]
        edges = _edges(values)
        for axes, (title, of_runs) in zip(panels, values.items(), strict=True):
            if cumulative:
                _draw_cdfs(axes, of_runs)
            else:
                _draw_histograms(axes, of_runs, edges)
            axes.set_title(title, fontsize=9 if len(values) <= 3 else 7)
            if zero:
                axes.axvline(0, color=MUTED, linewidth=0.8)
        panels[0].set_ylim(bottom=0)
        panels[0].set_ylabel("cumulative share" if cumulative else "share of the images")
        panels[len(panels) // 2].set_xlabel(axis_label)
        run_legend(figure, runs)

    table = cdf_table(values, quantity) if cumulative else histogram_table(values, quantity)
    return Plot(table, draw, 2.7 + legend_height(runs), note, summary_of(values, quantity))


def histogram_table(values: Values, quantity: str) -> Table:
    """Return the share of each class's images in each bin. All classes and runs have the same bins."""
    rows, edges = [], _edges(values)
    for title, of_runs in values.items():
        for run, values_N in of_runs.items():
            bins = zip(edges[:-1].tolist(), edges[1:].tolist(), _shares(values_N, edges).tolist(), strict=True)
            rows += [(_name(title), run, low, high, share) for low, high, share in bins]
    return Table(("class", "run", f"{quantity}_from", f"{quantity}_to", "share"), rows)


def cdf_table(values: Values, quantity: str) -> Table:
    """Return each value with the share of its class that is not larger."""
    rows = []
    for title, of_runs in values.items():
        for run, values_N in of_runs.items():
            ordered_N, share_N = empirical_cdf(values_N)
            pairs = zip(ordered_N.tolist(), share_N.tolist(), strict=True)
            rows += [(_name(title), run, value, share) for value, share in pairs]
    return Table(("class", "run", quantity, "share"), rows)


def summary_of(values: Values, quantity: str) -> tuple[str, ...]:
    """Return a line with mean and standard deviation for each class and run.

    Args:
        values: Values by panel and run.
        quantity: Name of the value.

    Example:
        >>> import torch
        >>> summary_of({"cat": {"ce": torch.tensor([1.0, 3.0])}}, "margin")
        ('cat: ce margin 2.00, standard deviation 1.41 (2 images)',)
    """
    return tuple(
        f"{_name(title)}: {run} {quantity} {_format_values(values_N)}"
        for title, of_runs in values.items()
        for run, values_N in of_runs.items()
    )


def _format_values(values_N: Tensor) -> str:
    mean, images = f"{float(values_N.mean()):.2f}", several(len(values_N), "image")
    spread = f", standard deviation {float(values_N.std()):.2f}" if len(values_N) > 1 else ""
    return f"{mean}{spread} ({images})"


def _draw_histograms(axes: Axes, of_runs: Mapping[str, Tensor], edges: Array) -> None:
    for values_N, look in zip(of_runs.values(), looks(len(of_runs)), strict=True):
        shares = _shares(values_N, edges)
        if len(of_runs) <= 3:  # with more, the filled areas hide each other
            axes.stairs(shares, edges, fill=True, color=look.color, alpha=0.12)
        axes.stairs(shares, edges, color=look.color, linestyle=look.dash, linewidth=1.4)


def _draw_cdfs(axes: Axes, of_runs: Mapping[str, Tensor]) -> None:
    for values_N, look in zip(of_runs.values(), looks(len(of_runs)), strict=True):
        ordered_N, share_N = empirical_cdf(values_N)
        axes.step(ordered_N.numpy(), share_N.numpy(), where="post", color=look.color, linestyle=look.dash, lw=1.4)


def _shares(values_N: Tensor, edges: Array) -> Array:
    shares: Array = np.histogram(values_N.numpy(), edges)[0] / len(values_N)
    return shares


def _edges(values: Values) -> Array:
    """Return bin edges from the smallest to the largest value of all."""
    everything = [values_N for of_runs in values.values() for values_N in of_runs.values()]
    low, high = min(float(v.min()) for v in everything), max(float(v.max()) for v in everything)
    slack = 0.5 if low == high else 1e-6 * (high - low)
    return np.linspace(low - slack, high + slack, BINS + 1)


def _name(title: str) -> str:
    """Return the class name in the title of a panel."""
    return title.partition("\n")[0]
