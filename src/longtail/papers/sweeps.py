"""Accuracy against one setting of a method, a curve for each of its other settings.

Figure 7 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022): lambda, for several alpha; Figure 4a of
Zhang et al., "Semantic Transfer from Head to Tail" (WACV 2024): tau, with heads chosen online or by a given table.
"""

import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

import longtail.embedding as embedding
import longtail.transfer as transfer
from longtail.component import Component, keyword_options
from longtail.config.convert import from_mapping, leaves, to_mapping
from longtail.errors import InputError
from longtail.papers.layout import legend_height, run_legend
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.wording import several
from longtail.transfer.maps import TransferMap

Metric = Literal["top1", "balanced", "many", "medium", "few"]


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Args:
        axis: key of the stage's option that holds the component ("embedding_loss").
        package: of that component.
        option: of the component, the horizontal axis.
        symbol: what the axis says.
        default: of the option.
        command: settings that make such runs, for the message where there are none.
    """

    axis: str
    package: types.ModuleType
    option: str
    symbol: str
    default: float
    command: str


LAMBDA = Sweep(
    "embedding_loss",
    embedding,
    "weight",
    "weight of the embedding loss (lambda)",
    default=embedding.PullLoss([1, 1]).weight,
    command="--method elm",
)
TAU = Sweep(
    "transfer",
    transfer,
    "tau",
    "scaling (tau)",
    default=TransferMap().tau,
    command="--method smart",
)


class Point(NamedTuple):
    """One mark: accuracy in percent at a value of the swept setting.

    Args:
        curve: what the figure calls its other settings.
        value: of the swept setting; None for a method without it, which is a level line.
        accuracy: mean over the seeds.
        deviation: standard deviation over the seeds; None for one seed.
        seeds: how many.
    """

    curve: str
    value: float | None
    accuracy: float
    deviation: float | None
    seeds: int


def lambda_sweep(runs: Sequence[FinishedRun], *, metric: Metric = "balanced") -> Plot:
    """Accuracy against the weight of the embedding loss, a curve for each of its other settings (alpha, pairs).

    Args:
        runs: with an embedding loss; those without are level lines to compare with.
        metric: which accuracy: top1, balanced, many, medium or few.

    Raises:
        InputError: if the runs do not compare, or none has an embedding loss.
    """
    return _plot(runs, LAMBDA, metric)


def tau_sweep(runs: Sequence[FinishedRun], *, metric: Metric = "balanced") -> Plot:
    """Accuracy against the scaling tau of SMART, a curve for each of its other settings (pairing).

    Args:
        runs: with a transfer; those without are level lines to compare with.
        metric: which accuracy: top1, balanced, many, medium or few.

    Raises:
        InputError: if the runs do not compare, or none has a transfer.
    """
    return _plot(runs, TAU, metric)


def points_of(runs: Sequence[FinishedRun], sweep: Sweep, metric: Metric) -> list[Point]:
    """The marks, curve by curve, each from its lowest value on; level lines last."""
    swept: dict[str, dict[float, list[float]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    level: dict[str, list[float]] = {}
    for run in runs:
        accuracy = run.result["test"][metric]
        if accuracy is None:
            raise InputError(f"{run.folder} has no class in the group {metric}; choose another --metric")
        component = _component(run, sweep)
        others = _other_settings(run, sweep)
        if component is None:
            level.setdefault(repr(others), []).append(accuracy)
            settings.setdefault(repr(others), {"label": _plain(run, runs)})
            continue
        settings.setdefault(repr(others), others)
        value = float(component.options.get(sweep.option, sweep.default))
        swept.setdefault(repr(others), {}).setdefault(value, []).append(accuracy)
    if not swept:
        raise InputError(
            f"none of the runs has the setting {sweep.axis}.{sweep.option}; train some with {sweep.command} and "
            f"different --set stages.0.{sweep.axis}.{sweep.option}=VALUE"
        )
    names = _names({key: settings[key] for key in swept})
    points = [_point(names[key], value, swept[key][value]) for key in swept for value in sorted(swept[key])]
    return points + [_point(settings[key]["label"], None, values) for key, values in level.items()]


def _point(curve: str, value: float | None, accuracies: Sequence[float]) -> Point:
    deviation = stdev(accuracies) if len(accuracies) > 1 else None
    return Point(curve, value, mean(accuracies), deviation, len(accuracies))


def _component(run: FinishedRun, sweep: Sweep) -> Component | None:
    """The component of the first stage that has one."""
    given = (getattr(stage, sweep.axis, None) for stage in run.config.stages)
    found = next((value for value in given if value is not None), None)
    component: Component | None = None if found is None else from_mapping(Component, found, sweep.axis)
    if component is None:
        return None
    return component if sweep.option in keyword_options(component.check(sweep.package)) else None


def _other_settings(run: FinishedRun, sweep: Sweep) -> dict[str, Any]:
    """All that was set but the seed, the swept option, and names; a component's name is a leaf called "name"."""
    mapping = to_mapping(run.config)
    flat = leaves({key: mapping[key] for key in ("data", "model", "stages", "recipe")})
    named = {f"{key}.name" if _is_name(key, value) else key: value for key, value in flat.items()}
    return {key: value for key, value in named.items() if not key.endswith(f".{sweep.axis}.{sweep.option}")}


def _is_name(key: str, value: object) -> bool:
    """Whether this is a component without options, which a configuration writes as its name alone."""
    return key.rpartition(".")[2] in ("embedding_loss", "transfer") and isinstance(value, str)


def _names(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each curve, the settings in which it differs from another one."""
    keys = list(dict.fromkeys(key for chosen in settings.values() for key in chosen))
    differing = [key for key in keys if len({repr(chosen.get(key)) for chosen in settings.values()}) > 1]
    names = {
        curve: ", ".join(f"{key.rpartition('.')[2]} {chosen[key]}" for key in differing if chosen.get(key) is not None)
        or "default"
        for curve, chosen in settings.items()
    }
    if len(settings) == 1:
        (chosen,) = settings.values()
        only = next((str(value) for key, value in chosen.items() if key.endswith(("_loss.name", "transfer.name"))), "")
        return dict.fromkeys(names, only)
    return names


def _plain(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """The name of a level line: its method, where other runs of that name differ in their seed alone."""
    method = str(run.result["method"])
    alike = [other for other in runs if other.result["method"] == method]
    same = {repr({**to_mapping(other.config), "seed": None, "device": None}) for other in alike}
    return method if len(alike) > 1 and len(same) == 1 else run.label


def _plot(runs: Sequence[FinishedRun], sweep: Sweep, metric: Metric) -> Plot:
    check_comparable(runs)
    points = points_of(runs, sweep, metric)
    curves = list(dict.fromkeys(point.curve for point in points))
    looks(len(curves))
    most = max(point.seeds for point in points)
    seeds = f"mean and standard deviation of up to {several(most, 'seed')}" if most > 1 else ""
    return Plot(
        Table(Point._fields, points),
        lambda figure: _draw(figure, points, curves, sweep, metric),
        height=3.0 + legend_height(curves),
        note="; ".join(filter(None, [seeds, warnings_of(runs)])),
        summary=tuple(_told(point, sweep) for point in points),
    )


def _told(point: Point, sweep: Sweep) -> str:
    at = "" if point.value is None else f", {sweep.option} {point.value:g}"
    return f"{point.curve}{at}: {point.accuracy:.2f} (n = {point.seeds})"


def _draw(figure: Figure, points: Sequence[Point], curves: Sequence[str], sweep: Sweep, metric: Metric) -> None:
    axes = figure.subplots()
    for curve, look in zip(curves, looks(len(curves)), strict=True):
        own = [point for point in points if point.curve == curve]
        if own[0].value is None:
            axes.axhline(own[0].accuracy, color=look.colour, linestyle=look.dash, linewidth=1.4)
            continue
        x = [point.value for point in own if point.value is not None]
        spread = [point.deviation or 0.0 for point in own]
        shown = spread if any(spread) else None
        axes.errorbar(
            x,
            [point.accuracy for point in own],
            shown,
            color=look.colour,
            linestyle=look.dash,
            marker=look.marker,
            ms=5,
            capsize=2,
        )
    _value_axis(axes, sorted({point.value for point in points if point.value is not None}))
    axes.set_xlabel(sweep.symbol)
    words = {"top1": "accuracy", "balanced": "balanced accuracy"}
    axes.set_ylabel(f"{words.get(metric, f'{metric}-shot accuracy')} (%)")
    run_legend(figure, curves, markers=True)


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at the values tried; logarithmic where they span a decade, with a zero kept."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) >= 10 * min(positive):
        axes.set_xscale("log") if positive == list(values) else axes.set_xscale("symlog", linthresh=min(positive))
        decades = [value for value in values if value == 0 or math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)]
        axes.set_xticks(values if len(values) <= 7 else decades or values)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
