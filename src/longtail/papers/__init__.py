"""Figures of the source papers, drawn from finished runs: `longtail figure NAME RUN ...`.

A figure is a function of runs and keyword options that gives a `Plot`: the numbers first, then how they are drawn. One
file for each figure or family, one line for each in `FIGURES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.component import keyword_options
from longtail.errors import InputError, unknown_name
from longtail.papers import (
    class_margins,
    confusions,
    distances,
    group_bars,
    label_space,
    learned_rates,
    margins,
    sweeps,
    tail_confusion,
    toy_boundaries,
    tsne,
    two_moons,
)
from longtail.papers.plot import Plot, Table, write_plot
from longtail.papers.runs import read_runs

__all__ = ["FIGURES", "Kind", "Plot", "Table", "draw", "write_plot"]

ANY = 1_000
"""Runs where the figure itself sets the limit, as it merges seeds or points."""


@dataclass(frozen=True)
class Kind:
    """A figure that can be drawn.

    Args:
        make: from runs, if it takes any, and keyword options to a `Plot`.
        about: half a line: what it shows, and whose figure it is.
        fewest: runs it takes at least; 0 for one that makes its own numbers.
        most: runs it takes at most.
        needs: of what kind these are.
    """

    make: Callable[..., Plot]
    about: str
    fewest: int = 1
    most: int = 10
    needs: str = "runs of one data set and backbone"

    @property
    def options(self) -> list[str]:
        """Names of the keyword options."""
        return keyword_options(self.make)


FIGURES: Mapping[str, Kind] = {
    "two-moons": Kind(
        two_moons.two_moons, "embeddings of two uneven moons (ELM, Fig. 1)", 0, 0, "no run: it trains its own"
    ),
    "group-bars": Kind(group_bars.group_bars, "accuracy of many, medium and few (ELM, Fig. 2)", most=ANY),
    "margin-histograms": Kind(
        margins.margin_histograms, "logit margins of a head, a torso and a tail class (ELM, Fig. 3)"
    ),
    "margin-cdfs": Kind(margins.margin_cdfs, "the same, cumulative (ELM, Fig. 6)"),
    "intra-class-distances": Kind(distances.intra_class_distances, "farthest image of the same class (ELM, Fig. 4)"),
    "tsne": Kind(tsne.tsne, "embeddings on the plane (ELM, Fig. 5; BALMS supplement, Fig. 2)"),
    "lambda-sweep": Kind(
        sweeps.lambda_sweep,
        "accuracy against lambda (ELM, Fig. 7)",
        2,
        ANY,
        "runs with an embedding loss of different weight",
    ),
    "tail-confusion": Kind(tail_confusion.tail_confusion, "a tail class among the heads most like it (SMART, Fig. 3)"),
    "tau-sweep": Kind(
        sweeps.tau_sweep, "accuracy against tau (SMART, Fig. 4a)", 2, ANY, "runs with a transfer of different tau"
    ),
    "class-margins": Kind(class_margins.class_margins, "mean margin of each class (SMART, Fig. 4b)"),
    "learned-rates": Kind(
        learned_rates.learned_rates,
        "what the Meta Sampler has learnt (BALMS supplement, Fig. 1)",
        needs="runs with a Meta Sampler",
    ),
    "toy-boundaries": Kind(
        toy_boundaries.toy_boundaries,
        "three points under four trainings (BALMS supplement, Fig. 3)",
        0,
        0,
        "no run: it trains its own",
    ),
    "confusions": Kind(
        confusions.confusions,
        "confusion without, with, and their difference (DLSA supplement, Figs. 1 to 3)",
        2,
        2,
        "two runs",
    ),
    "label-space": Kind(
        label_space.label_space,
        "what each level of DLSA takes, and its clusters (DLSA, its analyses)",
        1,
        1,
        "a run of dlsa",
    ),
}
"""Every figure, by the name that the command line takes."""


def draw(
    name: str, runs: Sequence[Path] = (), options: Mapping[str, Any] | None = None, labels: Sequence[str] | None = None
) -> Plot:
    """The figure of that name.

    Args:
        name: one of `FIGURES`.
        runs: folders of finished runs.
        options: keyword options of the figure.
        labels: what to call the runs; by default by their methods.

    Raises:
        InputError: for an unknown figure or option, runs it can not take, or what the figure itself refuses.

    Example:
        >>> draw("toy-boundaries", options={"iterations": [10]}).table.columns[:2]
        ('iteration', 'method')
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    kind, options = FIGURES[name], options or {}
    for option in options:
        if option not in kind.options:
            takes = ", ".join(f"--{known.replace('_', '-')}" for known in kind.options) or "no option"
            raise InputError(f"{name} has no use for --{option.replace('_', '-')}; it takes {takes}")
    if not kind.fewest <= len(runs) <= kind.most:
        raise InputError(f"{name} takes {_how_many(kind)} ({kind.needs}), not {len(runs)}")
    if not kind.most:
        return kind.make(**options)
    return kind.make(read_runs(runs, labels), **options)


def _how_many(kind: Kind) -> str:
    if kind.fewest == kind.most:
        return f"{kind.fewest or 'no'} runs"
    return f"{kind.fewest} or more runs" if kind.most == ANY else f"{kind.fewest} to {kind.most} runs"
