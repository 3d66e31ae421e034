"""What others report of the same methods on the same data, to stand beside ours."""

from collections.abc import Iterator
from dataclasses import dataclass

from longtail.bench.results import Row
from longtail.bench.statistics import Summary, summarize
from longtail.papers.published import Published, difference_in_sd, published


@dataclass(frozen=True)
class Beside:
    """A published figure beside ours.

    Args:
        name: of our row.
        ours: our accuracy over the seeds.
        published: theirs, with where it stands and how it came about.
        distance: ours less theirs, in standard deviations of the difference; None for one seed.
    """

    name: str
    ours: Summary
    published: Published
    distance: float | None


def beside(row: Row) -> Iterator[Beside]:
    """The published accuracies of a row's method on its data.

    Args:
        row: with a finished seed.
    """
    ours = summarize(row.values("top1"))
    if row.published is None or ours is None:
        return
    for found in published(row.first["data"], row.first["imbalance_factor"], row.published):
        if "top1" in found.scores:
            theirs = found.scores["top1"]
            distance = difference_in_sd(ours.mean, ours.sd, ours.n, theirs, found.seeds)
            yield Beside(row.name, ours, found, distance)
