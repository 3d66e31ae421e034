"""Sample rates that the Meta Sampler has learnt, class by class.

Figure 1 of the supplement of Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020
(https://arxiv.org/abs/2007.10740): with plain softmax the rates of CIFAR-100-LT (imbalance factor 200) end near 1 for
rare classes and near 0 for full ones, with a variance of 0.13; with Balanced Softmax the variance is 0.03.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from longtail.errors import InputError
from longtail.papers.layout import panels_in_rows
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.palette import MUTED
from longtail.report.style import Array, shortened

START = 0.5  # the rate of every class before anything is learnt


def learned_rates(runs: Sequence[FinishedRun]) -> Plot:
    """Sample rates of each class, a panel for each run.

    Args:
        runs: 1 to 10 with a `RetrainMeta` stage (`--method balms`).

    Raises:
        InputError: if the runs do not compare, or one has learnt no rates.
    """
    check_comparable(runs)
    looks(len(runs))
    rates = {run.label: rates_of(run) for run in runs}
    classes = runs[0].classes
    rows = [
        (
            rank + 1,
            classes.names[label],
            int(classes.counts[label]),
            *(float(of_run[rank]) for of_run in rates.values()),
        )
        for rank, label in enumerate(classes.order.tolist())
    ]
    return Plot(
        Table(("rank", "class", "training_images", *rates), rows),
        lambda figure: _draw(figure, rates),
        height=0.4 + 2.3 * -(-len(runs) // 2),
        note=warnings_of(runs),
        summary=tuple(
            f"{name}: variance {values_C.var():.4f}, from {values_C[0]:.3f} (fullest) to {values_C[-1]:.3f} (rarest)"
            for name, values_C in rates.items()
        ),
    )


def rates_of(run: FinishedRun) -> Array:
    """The learnt rate of each class, in (0, 1), the fullest class first, shape (C,).

    Raises:
        InputError: if the run has learnt none.
    """
    given = (run.result.get("chosen") or {}).get("sample_rates")
    if given is None:
        raise InputError(
            f"{run.folder} has learnt no sample rates; give runs with a RetrainMeta stage (longtail train --method "
            "balms; with --set stages.1.loss=CrossEntropy for plain softmax)"
        )
    rates_C: Array = np.array(given, dtype=np.float64)[run.classes.order.numpy()]
    return rates_C


def _draw(figure: Figure, rates: dict[str, Array]) -> None:
    columns = min(2, len(rates))
    panels = panels_in_rows(figure, len(rates), columns)
    for axes, (name, values_C), look in zip(panels, rates.items(), looks(len(rates)), strict=True):
        ranks = np.arange(1, len(values_C) + 1)
        axes.bar(ranks, values_C, width=1.0 if len(values_C) > 30 else 0.8, color=look.colour)
        axes.axhline(START, color=MUTED, linewidth=0.8, linestyle="--")
        axes.set(ylim=(0, 1), xlim=(0.4, len(values_C) + 0.6), xticks=[])
        axes.set_title(f"{shortened(name, 24)}: variance {values_C.var():.3f}", fontsize=9.5)
    for axes in panels[::columns]:
        axes.set_ylabel("sample rate")
    for axes in panels[-columns:]:
        axes.set_xlabel("classes, fullest first")
