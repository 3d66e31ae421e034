"""Accuracy against one setting of a method, with a curve for each combination of its other settings.

Figure 7 of "ELM: Embedding and Logit Margins for Long-Tail Learning" (2022): lambda, for several alpha. Figure 4a of
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
from longtail.papers.plot import Plot, Table, legend_height, looks, run_legend
from longtail.papers.runs import Runs, check_comparable, note_of, settings_key
from longtail.report.wording import several
from longtail.run.run import Run
from longtail.transfer.maps import TransferMap

Metric = Literal["top1", "balanced", "many", "medium", "few"]


@dataclass(frozen=True)
class Sweep:
    """A swept setting.

    Args:
        axis: Key of the stage's option that holds the component ("embedding_loss").
        package: Package of the component.
        option: Option of the component, the horizontal axis.
        symbol: Label of the axis.
        default: Default of the option.
        method: Method whose runs have the setting.
    """

    axis: str
    package: types.ModuleType
    option: str
    symbol: str
    default: float
    method: str


LAMBDA = Sweep(
    "embedding_loss",
    embedding,
    "weight",
    "weight of the embedding loss (lambda)",
    default=embedding.PullLoss([1, 1]).weight,
    method="elm",
)
TAU = Sweep("transfer", transfer, "tau", "scaling (tau)", default=TransferMap().tau, method="smart")


class Point(NamedTuple):
    """One mark: accuracy in percent at a value of the swept setting.

    Args:
        curve: Name of the curve, from the other settings.
        value: Value of the swept setting. None for a method without it, which is drawn as a horizontal line.
        accuracy: Mean over the seeds.
        deviation: Standard deviation over the seeds. None for one seed.
        seeds: Number of seeds.
    """

    curve: str
    value: float | None
    accuracy: float
    deviation: float | None
    seeds: int


def lambda_sweep(runs: Runs, *, metric: Metric = "balanced") -> Plot:
    """Draw accuracy against the weight of the embedding loss, a curve for each of its other settings (alpha, pairs).

    Args:
        runs: Runs with an embedding loss. Runs without one are drawn as horizontal lines.
        metric: Accuracy to draw: "top1", "balanced", "many", "medium" or "few".

    Raises:
        InputError: If the runs are not comparable, or none has an embedding loss.
    """
    return _sweep(runs, LAMBDA, metric)


def tau_sweep(runs: Runs, *, metric: Metric = "balanced") -> Plot:
    """Draw accuracy against the scaling tau of SMART, a curve for each of its other settings (pairing).

    Args:
        runs: Runs with a transfer. Runs without one are drawn as horizontal lines.
        metric: Accuracy to draw: "top1", "balanced", "many", "medium" or "few".

    Raises:
        InputError: If the runs are not comparable, or none has a transfer.
    """
    return _sweep(runs, TAU, metric)


def points_of(runs: Runs, sweep: Sweep, metric: Metric) -> list[Point]:
    """Return the marks, curve by curve in ascending order of the value, then the horizontal lines."""
    swept: dict[str, dict[float, list[float]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    level: dict[str, list[float]] = {}
    for name, run in runs.items():
        accuracy = run.result["test"][metric]
        if accuracy is None:
            raise InputError(f"{run.folder} has no class in the group {metric}; choose another `metric`")
        component = _component(run, sweep)
        others = _other_settings(run, sweep)
        if component is None:
            level.setdefault(repr(others), []).append(accuracy)
            settings.setdefault(repr(others), {"label": _line_name(name, run, runs)})
            continue
        settings.setdefault(repr(others), others)
        value = float(component.options.get(sweep.option, sweep.default))
        swept.setdefault(repr(others), {}).setdefault(value, []).append(accuracy)
    if not swept:
        raise InputError(
            f"none of the runs has the setting {sweep.axis}.{sweep.option}; train runs of the method {sweep.method} "
            f"with different stages.0.{sweep.axis}.{sweep.option}"
        )
    names = _curve_names({key: settings[key] for key in swept})
    points = [_point(names[key], value, swept[key][value]) for key in swept for value in sorted(swept[key])]
    return points + [_point(settings[key]["label"], None, values) for key, values in level.items()]


def _point(curve: str, value: float | None, accuracies: Sequence[float]) -> Point:
    deviation = stdev(accuracies) if len(accuracies) > 1 else None
    return Point(curve, value, mean(accuracies), deviation, len(accuracies))


def _component(run: Run, sweep: Sweep) -> Component | None:
    """Return the component of the first stage that has one, if it has the swept option."""
    given = (getattr(stage, sweep.axis, None) for stage in run.config.stages)
    found = next((value for value in given if value is not None), None)
    component: Component | None = None if found is None else from_mapping(Component, found, sweep.axis)
    if component is None:
        return None
    return component if sweep.option in keyword_options(component.check(sweep.package)) else None


def _other_settings(run: Run, sweep: Sweep) -> dict[str, Any]:
    """Return all settings except seed, swept option and row name. The name of a component is a leaf called "name"."""
    mapping = to_mapping(run.config)
    flat = leaves({key: mapping[key] for key in ("data", "model", "stages", "recipe")})
    named = {f"{key}.name" if _is_name(key, value) else key: value for key, value in flat.items()}
    return {key: value for key, value in named.items() if not key.endswith(f".{sweep.axis}.{sweep.option}")}


def _is_name(key: str, value: object) -> bool:
    """Return whether a setting is a component without options, which a configuration stores as its name."""
    return key.rpartition(".")[2] in ("embedding_loss", "transfer") and isinstance(value, str)


def _curve_names(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a name for each curve: the settings in which it differs from another one."""
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


def _line_name(label: str, run: Run, runs: Runs) -> str:
    """Return the name of a horizontal line: the method, if its runs differ only in their seed, else the label."""
    method = str(run.result["method"])
    alike = [other for other in runs.values() if other.result["method"] == method]
    return method if len(alike) > 1 and len({settings_key(other) for other in alike}) == 1 else label


def _sweep(runs: Runs, sweep: Sweep, metric: Metric) -> Plot:
    check_comparable(runs)
    points = points_of(runs, sweep, metric)
    curves = list(dict.fromkeys(point.curve for point in points))
    looks(len(curves))  # raises if there are too many
    most = max(point.seeds for point in points)
    seeds = f"mean and standard deviation of up to {several(most, 'seed')}" if most > 1 else ""
    return Plot(
        Table(Point._fields, points),
        lambda figure: _draw(figure, points, curves, sweep, metric),
        height=3.0 + legend_height(curves),
        note=note_of(runs, seeds),
        summary=tuple(_format_point(point, sweep) for point in points),
    )


def _format_point(point: Point, sweep: Sweep) -> str:
    at = "" if point.value is None else f", {sweep.option} {point.value:g}"
    return f"{point.curve}{at}: {point.accuracy:.2f} (n = {point.seeds})"


def _draw(figure: Figure, points: Sequence[Point], curves: Sequence[str], sweep: Sweep, metric: Metric) -> None:
    axes = figure.subplots()
    for curve, look in zip(curves, looks(len(curves)), strict=True):
        own = [point for point in points if point.curve == curve]
        if own[0].value is None:
            axes.axhline(own[0].accuracy, color=look.color, linestyle=look.dash, linewidth=1.4)
            continue
        x = [point.value for point in own if point.value is not None]
        spread = [point.deviation or 0.0 for point in own]
        style: dict[str, Any] = {
            "color": look.color,
            "linestyle": look.dash,
            "marker": look.marker,
            "ms": 5,
            "capsize": 2,
        }
        axes.errorbar(x, [point.accuracy for point in own], spread if any(spread) else None, **style)
    _value_axis(axes, sorted({point.value for point in points if point.value is not None}))
    axes.set_xlabel(sweep.symbol)
    words = {"top1": "accuracy", "balanced": "balanced accuracy"}
    axes.set_ylabel(f"{words.get(metric, f'{metric}-shot accuracy')} (%)")
    run_legend(figure, curves, markers=True)


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set ticks at the values. The axis is logarithmic, with zero, if they span a decade."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) >= 10 * min(positive):
        axes.set_xscale("log") if positive == list(values) else axes.set_xscale("symlog", linthresh=min(positive))
        decades = [value for value in values if value == 0 or math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)]
        axes.set_xticks(values if len(values) <= 7 else decades or values)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
