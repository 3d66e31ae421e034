"""Accuracy over all classes and within each group, a bar for each method.

Figure 2 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022), which calls the groups head, torso and
tail. Runs that differ in their seed alone are one bar, with their standard deviation.
"""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longtail.errors import InputError
from longtail.papers.layout import legend_columns, legend_height
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, by_seed, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.style import percent_axis

WIDE_ENOUGH = 5  # methods, up to which a bar has room for its number


class Bar(NamedTuple):
    """One bar: a method's accuracy in a group, in percent.

    Args:
        method: what the figure calls it.
        group: "all", "many", "medium" or "few".
        accuracy: mean over the seeds.
        deviation: standard deviation over the seeds; None for one seed.
        seeds: how many.
    """

    method: str
    group: str
    accuracy: float
    deviation: float | None
    seeds: int


def bars_of(runs: Sequence[FinishedRun]) -> list[Bar]:
    """The bars, method by method; groups without a class are left out."""
    keys = {"all": "balanced", **{group: group for group in runs[0].classes.filled}}
    bars = []
    for method, same in by_seed(runs):
        for group, key in keys.items():
            values = [run.result["test"][key] for run in same]
            deviation = stdev(values) if len(values) > 1 else None
            bars.append(Bar(method, group, mean(values), deviation, len(values)))
    return bars


def group_bars(runs: Sequence[FinishedRun]) -> Plot:
    """Accuracy of each method over all classes and in each group of classes.

    Args:
        runs: 1 to 10 methods, with any number of seeds each.

    Raises:
        InputError: if the runs do not compare.
    """
    check_comparable(runs)
    bars = bars_of(runs)
    methods = list(dict.fromkeys(bar.method for bar in bars))
    if len(methods) * len({bar.group for bar in bars}) != len(bars):
        raise InputError("two methods have the same name; tell them apart with --labels")
    looks(len(methods))
    limits = runs[0].classes.limits
    described = "; ".join(f"{group}: {limits[group]}" for group in runs[0].classes.filled)
    return Plot(
        Table(Bar._fields, bars),
        lambda figure: _draw(figure, bars, methods),
        height=2.7 + legend_height(methods),
        note="; ".join(filter(None, [_seeds(bars), warnings_of(runs)])),
        summary=(described,),
    )


def _seeds(bars: Sequence[Bar]) -> str:
    counts = sorted({bar.seeds for bar in bars})
    return f"mean and standard deviation of {' or '.join(map(str, counts))} seeds" if counts[-1] > 1 else ""


def _draw(figure: Figure, bars: Sequence[Bar], methods: Sequence[str]) -> None:
    axes = figure.subplots()
    groups = list(dict.fromkeys(bar.group for bar in bars))
    width = 0.82 / len(methods)
    handles = []
    for place, (method, look) in enumerate(zip(methods, looks(len(methods)), strict=True)):
        own = [bar for bar in bars if bar.method == method]
        x = np.arange(len(groups)) + (place - (len(methods) - 1) / 2) * width
        axes.bar(
            x, [b.accuracy for b in own], width * 0.92, color=look.colour, hatch=look.hatch, edgecolor="white", lw=0
        )
        spread = [
            (at, bar.accuracy, bar.deviation) for at, bar in zip(x, own, strict=True) if bar.deviation is not None
        ]
        for at, accuracy, deviation in spread:
            axes.errorbar(at, accuracy, deviation, color="black", linewidth=1, capsize=2)
        if len(methods) <= WIDE_ENOUGH:
            _write_numbers(axes, x.tolist(), own)
        handles.append(Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", lw=0, label=method))
    axes.set_xticks(range(len(groups)), ["all classes", *(f"{group}-shot" for group in groups[1:])])
    axes.tick_params(axis="x", length=0)
    percent_axis(axes, "accuracy (%)")
    top = max(bar.accuracy + (bar.deviation or 0.0) for bar in bars)
    axes.set_ylim(0, min(108, top * 1.12 + 2))
    figure.legend(handles=handles, loc="outside upper left", ncols=legend_columns(methods), handleheight=1.1)


def _write_numbers(axes: Axes, x: Sequence[float], bars: Sequence[Bar]) -> None:
    for at, bar in zip(x, bars, strict=True):
        top = bar.accuracy + (bar.deviation or 0.0)
        axes.annotate(f"{bar.accuracy:.0f}", (at, top), (0, 2), textcoords="offset points", ha="center", size=9)
