"""Values per class or group of classes: accuracy, margins and learned sample rates.

* `group_bars`: Figure 2 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022), which names the groups
  head, torso and tail.
* `class_margins`: Figure 4b of Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin for
  Long-Tailed Visual Recognition" (WACV 2024), whose text mentions the majority classes where the figure shows the tail.
* `learned_rates`: Figure 1 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition",
  NeurIPS 2020 (https://arxiv.org/abs/2007.10740). With softmax, the rates of CIFAR-100-LT (imbalance factor 200) end
  near 1 for rare classes and near 0 for frequent ones, with a variance of 0.13; with Balanced Softmax it is 0.03.

Shapes: C = classes.
"""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from longtail.errors import InputError
from longtail.evaluation.geometry import class_means, logit_margins
from longtail.papers.plot import Plot, Table, legend_columns, legend_height, looks, panels_in_rows, run_legend
from longtail.papers.runs import PartName, Runs, by_seed, check_comparable, classes_of, first_of, logits_of, note_of
from longtail.report.classes import Classes
from longtail.report.style import MUTED, NAMED_CLASSES, Array, percent_axis, plain_numbers, shortened, smoothed
from longtail.run.run import Run

MOST_NUMBERED = 5
"""Largest number of methods whose bars have room for their numbers."""
FIRST_RATE = 0.5
"""Sample rate of every class before training."""


class Bar(NamedTuple):
    """One bar: the accuracy of a method in a group, in percent.

    Args:
        method: Name of the method in the figure.
        group: "all", "many", "medium" or "few".
        accuracy: Mean over the seeds.
        deviation: Standard deviation over the seeds. None for one seed.
        seeds: Number of seeds.
    """

    method: str
    group: str
    accuracy: float
    deviation: float | None
    seeds: int


def group_bars(runs: Runs) -> Plot:
    """Draw the accuracy of each method over all classes and in each group. Runs that differ in their seed are averaged.

    Args:
        runs: 1 to 10 methods, each with any number of seeds.

    Raises:
        InputError: If the runs are not comparable.
    """
    check_comparable(runs)
    bars = bars_of(runs)
    methods = list(dict.fromkeys(bar.method for bar in bars))
    looks(len(methods))  # raises if there are too many
    classes = classes_of(first_of(runs))
    counts = sorted({bar.seeds for bar in bars})
    seeds = f"mean and standard deviation of {' or '.join(map(str, counts))} seeds" if counts[-1] > 1 else ""
    return Plot(
        Table(Bar._fields, bars),
        lambda figure: _draw_bars(figure, bars, methods),
        height=2.7 + legend_height(methods),
        note=note_of(runs, seeds),
        summary=("; ".join(f"{group}: {classes.limits[group]}" for group in classes.filled),),
    )


def bars_of(runs: Runs) -> list[Bar]:
    """Return the bars, method by method. Groups without a class are omitted."""
    keys = {"all": "balanced", **{group: group for group in classes_of(first_of(runs)).filled}}
    bars = []
    for method, same in by_seed(runs).items():
        for group, key in keys.items():
            values = [run.result["test"][key] for run in same]
            deviation = stdev(values) if len(values) > 1 else None
            bars.append(Bar(method, group, mean(values), deviation, len(values)))
    return bars


def _draw_bars(figure: Figure, bars: Sequence[Bar], methods: Sequence[str]) -> None:
    axes = figure.subplots()
    groups = list(dict.fromkeys(bar.group for bar in bars))
    width = 0.82 / len(methods)
    handles = []
    for place, (method, look) in enumerate(zip(methods, looks(len(methods)), strict=True)):
        own = [bar for bar in bars if bar.method == method]
        x = np.arange(len(groups)) + (place - (len(methods) - 1) / 2) * width
        style: dict[str, Any] = {"color": look.color, "hatch": look.hatch, "edgecolor": "white", "lw": 0}
        axes.bar(x, [bar.accuracy for bar in own], width * 0.92, **style)
        for at, bar in zip(x, own, strict=True):
            if bar.deviation is not None:
                axes.errorbar(at, bar.accuracy, bar.deviation, color="black", linewidth=1, capsize=2)
        if len(methods) <= MOST_NUMBERED:
            _write_numbers(axes, x.tolist(), own)
        handles.append(Patch(facecolor=look.color, hatch=look.hatch, edgecolor="white", lw=0, label=method))
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


def class_margins(runs: Runs, *, part: PartName = "test") -> Plot:
    """Draw the mean logit margin of each class. With many classes, it is smoothed over classes of similar counts.

    Args:
        runs: 1 to 10 runs.
        part: "test" or "train" images.

    Raises:
        InputError: If the runs are not comparable.
    """
    check_comparable(runs)
    looks(len(runs))  # raises if there are too many
    classes = classes_of(first_of(runs))
    margins = {}
    for name, run in runs.items():
        logits_NC, targets_N = logits_of(run, part)
        means_C = class_means(logit_margins(logits_NC, targets_N), targets_N, len(classes))
        margins[name] = means_C[classes.order].numpy()
    names = [classes.names[label] for label in classes.order.tolist()]
    return Plot(
        _ranked(classes, margins),
        lambda figure: _draw_margins(figure, margins, names),
        height=3.0 + legend_height(list(margins)),
        note=note_of(runs, f"{part} images"),
        summary=tuple(f"{name}: {_group_margins(of_run, classes)}" for name, of_run in margins.items()),
    )


def _ranked(classes: Classes, values: Mapping[str, Array]) -> Table:
    """Return a row per class, the most frequent first, with the values of each run in that order."""
    rows = [
        (
            rank + 1,
            classes.names[label],
            int(classes.counts[label]),
            *(float(of_run[rank]) for of_run in values.values()),
        )
        for rank, label in enumerate(classes.order.tolist())
    ]
    return Table(("rank", "class", "training_images", *values), rows)


def _group_margins(ordered_C: Array, classes: Classes) -> str:
    parts = []
    for group in classes.filled:
        own_C = ordered_C[classes.masks[group][classes.order].numpy()]
        parts.append(f"{group} {np.nanmean(own_C):.2f}" if not np.isnan(own_C).all() else f"{group} without images")
    return "mean margin " + ", ".join(parts)


def _draw_margins(figure: Figure, margins: Mapping[str, Array], names: Sequence[str]) -> None:
    axes = figure.subplots()
    few = len(names) <= NAMED_CLASSES
    ranks = np.arange(1, len(names) + 1)
    for values_C, look in zip(margins.values(), looks(len(margins)), strict=True):
        if few:
            axes.plot(ranks, values_C, look.marker, color=look.color, linestyle=look.dash, ms=5, lw=1.4)
            continue
        if len(margins) <= 4:
            axes.plot(ranks, values_C, look.marker, color=look.color, ms=2.5, mew=0, alpha=0.35)
        axes.plot(ranks, smoothed(values_C), color=look.color, linestyle=look.dash)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.set_ylabel("mean logit margin")
    if few:
        shown = [shortened(name) for name in names]
        axes.set_xticks(ranks, shown, rotation=90 if max(map(len, shown)) * len(shown) > 60 else 0)
    else:
        axes.set_xlabel("class, by number of training images (rank)")
        axes.xaxis.set_major_formatter(plain_numbers())
    axes.margins(x=0.01)
    run_legend(figure, list(margins), markers=few)


def learned_rates(runs: Runs) -> Plot:
    """Draw the sample rates that the Meta Sampler learned for each class, a panel for each run.

    Args:
        runs: 1 to 10 runs with a `RetrainMeta` stage (method "balms").

    Raises:
        InputError: If the runs are not comparable, or a run has no learned rates.
    """
    check_comparable(runs)
    looks(len(runs))  # raises if there are too many
    rates = {name: rates_of(run) for name, run in runs.items()}
    return Plot(
        _ranked(classes_of(first_of(runs)), rates),
        lambda figure: _draw_rates(figure, rates),
        height=0.4 + 2.3 * -(-len(runs) // 2),
        note=note_of(runs),
        summary=tuple(
            f"{name}: variance {values_C.var():.4f}, from {values_C[0]:.3f} (most frequent class) "
            f"to {values_C[-1]:.3f} (least frequent)"
            for name, values_C in rates.items()
        ),
    )


def rates_of(run: Run) -> Array:
    """Return the learned rate of each class in (0, 1), the most frequent class first, shape (C,).

    Args:
        run: Finished run.

    Raises:
        InputError: If the run has no learned rates.
    """
    given = (run.result.get("chosen") or {}).get("sample_rates")
    if given is None:
        raise InputError(
            f"{run.folder} has no learned sample rates; give runs with a RetrainMeta stage (method balms; for plain "
            "softmax, with stages.1.loss=CrossEntropy)"
        )
    rates_C: Array = np.array(given, dtype=np.float64)[classes_of(run).order.numpy()]
    return rates_C


def _draw_rates(figure: Figure, rates: dict[str, Array]) -> None:
    columns = min(2, len(rates))
    panels = panels_in_rows(figure, len(rates), columns)
    for axes, (name, values_C), look in zip(panels, rates.items(), looks(len(rates)), strict=True):
        ranks = np.arange(1, len(values_C) + 1)
        axes.bar(ranks, values_C, width=1.0 if len(values_C) > 30 else 0.8, color=look.color)
        axes.axhline(FIRST_RATE, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(ylim=(0, 1), xlim=(0.4, len(values_C) + 0.6), xticks=[])
        axes.set_title(f"{shortened(name, 24)}: variance {values_C.var():.3f}", fontsize=9.5)
    for axes in panels[::columns]:
        axes.set_ylabel("sample rate")
    for axes in panels[-columns:]:
        axes.set_xlabel("classes, most frequent first")
