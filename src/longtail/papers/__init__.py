"""Figures of the source papers from finished runs: `longtail figure NAME RUN ...`.

A figure is a function that takes runs by label and keyword options and returns a `Plot`: the numbers and how to draw
them. `FIGURES` lists all figures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail.component import keyword_options
from longtail.errors import InputError, unknown_name
from longtail.papers import confusions, distributions, embeddings, per_class, sweeps, toy_boundaries, two_moons
from longtail.papers.plot import Plot, Table, write_plot
from longtail.papers.runs import read_runs

__all__ = ["FIGURES", "Kind", "Plot", "Table", "draw", "write_plot"]

ANY = 1_000
"""Largest number of runs where the figure has its own limit, because it merges seeds or points."""


@dataclass(frozen=True)
class Kind:
    """A figure that can be drawn.

    Args:
        make: Function from runs, if the figure takes any, and keyword options to a `Plot`.
        about: Content and source of the figure in half a line.
        fewest: Smallest number of runs. 0 for a figure that trains its own models.
        most: Largest number of runs.
        needs: Description of these runs.
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
        two_moons.two_moons, "embeddings of two imbalanced moons (ELM, Fig. 1)", 0, 0, "no run: trains its own models"
    ),
    "group-bars": Kind(per_class.group_bars, "accuracy of many, medium and few (ELM, Fig. 2)", most=ANY),
    "margin-histograms": Kind(
        distributions.margin_histograms, "logit margins of a head, a torso and a tail class (ELM, Fig. 3)"
    ),
    "margin-cdfs": Kind(distributions.margin_cdfs, "cumulative logit margins of the same classes (ELM, Fig. 6)"),
    "intra-class-distances": Kind(
        distributions.intra_class_distances, "distance to the farthest image of the same class (ELM, Fig. 4)"
    ),
    "tsne": Kind(embeddings.tsne, "two-dimensional map of the embeddings (ELM, Fig. 5; BALMS supplement, Fig. 2)"),
    "lambda-sweep": Kind(
        sweeps.lambda_sweep,
        "accuracy against lambda (ELM, Fig. 7)",
        2,
        ANY,
        "runs with an embedding loss of different weight",
    ),
    "tail-confusion": Kind(
        confusions.tail_confusion, "confusion of a tail class with the most similar head classes (SMART, Fig. 3)"
    ),
    "tau-sweep": Kind(
        sweeps.tau_sweep, "accuracy against tau (SMART, Fig. 4a)", 2, ANY, "runs with a transfer of different tau"
    ),
    "class-margins": Kind(per_class.class_margins, "mean logit margin of each class (SMART, Fig. 4b)"),
    "learned-rates": Kind(
        per_class.learned_rates,
        "sample rates learned by the Meta Sampler (BALMS supplement, Fig. 1)",
        needs="runs with a Meta Sampler",
    ),
    "toy-boundaries": Kind(
        toy_boundaries.toy_boundaries,
        "class regions of three points under four trainings (BALMS supplement, Fig. 3)",
        0,
        0,
        "no run: trains its own models",
    ),
    "confusions": Kind(
        confusions.confusions,
        "confusion of two runs and its difference (DLSA supplement, Figs. 1 to 3)",
        2,
        2,
        "two runs",
    ),
    "label-space": Kind(
        embeddings.label_space, "shares of the levels of DLSA, and its clusters (DLSA)", 1, 1, "a run of dlsa"
    ),
}
"""All figures by name."""


def draw(
    name: str, runs: Sequence[Path] = (), options: Mapping[str, Any] | None = None, labels: Sequence[str] | None = None
) -> Plot:
    """Return a figure by name.

    Args:
        name: Key of `FIGURES`.
        runs: Folders of finished runs.
        options: Keyword options of the figure.
        labels: One label per run. Default: the methods.

    Raises:
        InputError: If the figure or an option is unknown, or the figure cannot be drawn from these runs.

    Example:
        >>> draw("toy-boundaries", options={"iterations": [10]}).table.columns[:2]
        ('iteration', 'method')
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    kind, options = FIGURES[name], options or {}
    for option in options:
        if option not in kind.options:
            known = f"its options are {', '.join(kind.options)}" if kind.options else "it has no options"
            raise InputError(f"{name} has no option `{option}`; {known}")
    if not kind.fewest <= len(runs) <= kind.most:
        raise InputError(f"{name} takes {_format_limits(kind)} ({kind.needs}), got {len(runs)}")
    if not kind.most:
        return kind.make(**options)
    return kind.make(read_runs(runs, labels), **options)


def _format_limits(kind: Kind) -> str:
    if kind.fewest == kind.most:
        return f"{kind.fewest or 'no'} runs"
    return f"{kind.fewest} or more runs" if kind.most == ANY else f"{kind.fewest} to {kind.most} runs"
