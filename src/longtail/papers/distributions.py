"""A value per image, of a few classes, of several runs: as histograms and as cumulative distributions.

Shapes: N = images of one class.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.geometry import empirical_cdf
from longtail.papers.layout import legend_height, run_legend
from longtail.papers.plot import Plot, Table
from longtail.papers.series import looks
from longtail.report.palette import MUTED
from longtail.report.style import Array
from longtail.report.wording import several

BINS = 24
Values = Mapping[str, Mapping[str, Tensor]]
"""Values (N,) by the title of a panel and by the name of a run."""


def histogram_table(values: Values, quantity: str) -> Table:
    """Share of each class's images in each bin; the bins are the same for all classes and runs."""
    rows, edges = [], _edges(values)
    for title, of_runs in values.items():
        for run, values_N in of_runs.items():
            bins = zip(edges[:-1].tolist(), edges[1:].tolist(), _shares(values_N, edges).tolist(), strict=True)
            rows += [(_flat(title), run, low, high, share) for low, high, share in bins]
    return Table(("class", "run", f"{quantity}_from", f"{quantity}_to", "share"), rows)


def cdf_table(values: Values, quantity: str) -> Table:
    """Each value with the share of its class that is no larger."""
    rows = []
    for title, of_runs in values.items():
        for run, values_N in of_runs.items():
            ordered_N, share_N = empirical_cdf(values_N)
            pairs = zip(ordered_N.tolist(), share_N.tolist(), strict=True)
            rows += [(_flat(title), run, value, share) for value, share in pairs]
    return Table(("class", "run", quantity, "share"), rows)


def summarised(values: Values, quantity: str) -> tuple[str, ...]:
    """Mean and standard deviation of each class under each run, a line each.

    Example:
        >>> import torch
        >>> summarised({"cat": {"ce": torch.tensor([1.0, 3.0])}}, "margin")
        ('cat: ce margin 2.00, standard deviation 1.41 (2 images)',)
    """
    return tuple(
        f"{_flat(title)}: {run} {quantity} {_told(values_N)}"
        for title, of_runs in values.items()
        for run, values_N in of_runs.items()
    )


def _told(values_N: Tensor) -> str:
    mean, images = f"{float(values_N.mean()):.2f}", several(len(values_N), "image")
    spread = f", standard deviation {float(values_N.std()):.2f}" if len(values_N) > 1 else ""
    return f"{mean}{spread} ({images})"


def distributions(
    values: Values, quantity: str, axis_label: str, *, cumulative: bool, zero: bool = False, note: str = ""
) -> Plot:
    """A panel for each class, a line for each run.

    Args:
        values: by panel and run.
        quantity: name of the value in the table.
        axis_label: name of the value on the axis, with its unit.
        cumulative: draw the share that is no larger instead of histograms.
        zero: mark zero, which parts right from wrong.
        note: to write below.

    Raises:
        InputError: if a class has no image.
    """
    for title, of_runs in values.items():
        if any(not len(values_N) for values_N in of_runs.values()):
            raise InputError(
                f"{_flat(title)} has too few images in this part; choose other classes or the other --part"
            )
    runs = list(next(iter(values.values())))
    looks(len(runs))

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
        panels[0].set_ylabel("share no larger" if cumulative else "share of the images")
        panels[len(panels) // 2].set_xlabel(axis_label)
        run_legend(figure, runs)

    table = cdf_table(values, quantity) if cumulative else histogram_table(values, quantity)
    return Plot(table, draw, 2.7 + legend_height(runs), note, summarised(values, quantity))


def _draw_histograms(axes: Axes, of_runs: Mapping[str, Tensor], edges: Array) -> None:
    for values_N, look in zip(of_runs.values(), looks(len(of_runs)), strict=True):
        shares = _shares(values_N, edges)
        if len(of_runs) <= 3:  # with more, the shades only hide each other
            axes.stairs(shares, edges, fill=True, color=look.colour, alpha=0.12)
        axes.stairs(shares, edges, color=look.colour, linestyle=look.dash, linewidth=1.4)


def _draw_cdfs(axes: Axes, of_runs: Mapping[str, Tensor]) -> None:
    for values_N, look in zip(of_runs.values(), looks(len(of_runs)), strict=True):
        ordered_N, share_N = empirical_cdf(values_N)
        axes.step(ordered_N.numpy(), share_N.numpy(), where="post", color=look.colour, linestyle=look.dash, lw=1.4)


def _shares(values_N: Tensor, edges: Array) -> Array:
    shares: Array = np.histogram(values_N.numpy(), edges)[0] / len(values_N)
    return shares


def _edges(values: Values) -> Array:
    """Bins from the least to the greatest value of all."""
    everything = [values_N for of_runs in values.values() for values_N in of_runs.values()]
    low, high = min(float(v.min()) for v in everything), max(float(v.max()) for v in everything)
    slack = 0.5 if low == high else 1e-6 * (high - low)
    return np.linspace(low - slack, high + slack, BINS + 1)


def _flat(title: str) -> str:
    """The class, of the title of its panel."""
    return title.partition("\n")[0]
