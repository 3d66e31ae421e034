"""Mean logit margin of each class, from the fullest to the rarest.

Figure 4b of Zhang et al., "Semantic Transfer from Head to Tail: Enlarging Tail Margin for Long-Tailed Visual
Recognition" (WACV 2024), whose text speaks of the majority classes where the figure shows the tail.
Shapes: C = classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from longtail.evaluation.geometry import class_means, logit_margins
from longtail.papers.layout import legend_height, run_legend
from longtail.papers.plot import Plot, Table
from longtail.papers.runs import FinishedRun, PartName, check_comparable, warnings_of
from longtail.papers.series import looks
from longtail.report.palette import MUTED
from longtail.report.plots import NAMED_CLASSES, smoothed
from longtail.report.style import Array, plain_numbers, shortened


def class_margins(runs: Sequence[FinishedRun], *, part: PartName = "test") -> Plot:
    """Mean margin of each class under each run; with many classes, a trend smoothed over neighbours in count.

    Args:
        runs: 1 to 10.
        part: "test", or "train" for the training images.

    Raises:
        InputError: if the runs do not compare.
    """
    check_comparable(runs)
    looks(len(runs))
    classes = runs[0].classes
    order_C = classes.order
    margins = {}
    for run in runs:
        logits_NC, targets_N = run.logits(part)
        margins[run.label] = class_means(logit_margins(logits_NC, targets_N), targets_N, len(classes))[order_C].numpy()
    names = [classes.names[label] for label in order_C.tolist()]
    rows = [
        (rank + 1, name, int(classes.counts[label]), *(float(of_run[rank]) for of_run in margins.values()))
        for rank, (name, label) in enumerate(zip(names, order_C.tolist(), strict=True))
    ]
    return Plot(
        Table(("rank", "class", "training_images", *margins), rows),
        lambda figure: _draw(figure, margins, names),
        height=3.0 + legend_height(list(margins)),
        note="; ".join(filter(None, [f"{part} images", warnings_of(runs)])),
        summary=tuple(f"{name}: {_by_group(of_run, runs[0])}" for name, of_run in margins.items()),
    )


def _by_group(ordered_C: Array, run: FinishedRun) -> str:
    classes = run.classes
    parts = []
    for group in classes.filled:
        own_C = ordered_C[classes.masks[group][classes.order].numpy()]
        parts.append(f"{group} {np.nanmean(own_C):.2f}" if not np.isnan(own_C).all() else f"{group} without images")
    return "mean margin " + ", ".join(parts)


def _draw(figure: Figure, margins: Mapping[str, Array], names: Sequence[str]) -> None:
    axes = figure.subplots()
    few = len(names) <= NAMED_CLASSES
    ranks = np.arange(1, len(names) + 1)
    for values_C, look in zip(margins.values(), looks(len(margins)), strict=True):
        if few:
            axes.plot(ranks, values_C, look.marker, color=look.colour, linestyle=look.dash, ms=5, lw=1.4)
            continue
        if len(margins) <= 4:
            axes.plot(ranks, values_C, look.marker, color=look.colour, ms=2.5, mew=0, alpha=0.35)
        axes.plot(ranks, smoothed(values_C), color=look.colour, linestyle=look.dash)
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
