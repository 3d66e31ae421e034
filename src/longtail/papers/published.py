"""Published numbers with where they stand, how they came about, and why ours may differ.

The files in `tables/` hold tables of the sources: the columns say of which data a number is (and, by `score`, which
score: top-1 accuracy if nothing else is said), the rows are methods. What a table says holds for all its rows and
columns unless one of them says otherwise.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Read = Literal["paper", "readme", "log", "issue", "aggregator", "memory"]
"""How a number was obtained: the last two are not checked against the source."""
Checkpoint = Literal["last", "best on test", "unknown"]


@dataclass(frozen=True)
class Published:
    """One row of a published table, for one data set.

    Args:
        table: as `docs/sources.md` calls it, such as "B-Tab2".
        source: paper or repository.
        place: table, figure or page of the source.
        read: how the number was obtained.
        label: the method as the source calls it.
        method: our recipe that does the same; None where there is none.
        data: name of our data recipe; "lvis-v0.5" for detection.
        imbalance_factor: of CIFAR-LT; None for sets with one published split.
        backbone: our name where it is the same net, with what sets it apart in words.
        recipe: our training recipe with the same settings; None where they differ or are unknown.
        training: schedule and augmentation, in words.
        checkpoint: which epoch was scored.
        seeds: trainings the number is a mean of; None where it is not said.
        scores: in percent, by the names of `Scores` ("top1", "many", ...); "ap..." for detection.
        mismatch: known reasons why ours may differ, a short sentence.
    """

    table: str
    source: str
    place: str
    read: Read
    label: str
    method: str | None
    data: str
    imbalance_factor: float | None
    backbone: str
    recipe: str | None
    training: str
    checkpoint: Checkpoint
    seeds: int | None
    scores: Mapping[str, float]
    mismatch: str


def published(data: str, imbalance_factor: float | None, method: str | None = None) -> list[Published]:
    """What is published of a data set, in the order of the files.

    Args:
        data: name of a data recipe; of any other there is nothing.
        imbalance_factor: of CIFAR-LT; it does not matter for sets with one published split.
        method: only this method recipe; None gives every row, of methods that are not built here too.

    Example:
        >>> [(row.table, row.scores["top1"]) for row in published("cifar100-lt", 200, "balms")]
        [('B-Tab2', 45.5), ('B-Readme', 48.0), ('B-main T2', 45.5)]
    """
    return [
        row
        for row in everything()
        if row.data == data
        and row.imbalance_factor in (None, imbalance_factor)
        and (method is None or row.method == method)
    ]


def difference_in_sd(
    ours_mean: float, ours_sd: float | None, ours_n: int, published: float, published_n: int | None = None
) -> float | None:
    """How far ours lies above a published number, in standard deviations of that difference.

    A published mean of m trainings is taken to vary as ours do: the difference then has the standard deviation
    sd * sqrt(1/n + 1/m). Beyond 2 or so, chance alone hardly explains it.

    Args:
        ours_mean: of our trainings, in percent.
        ours_sd: their sample standard deviation; None for a single training.
        ours_n: number of our trainings.
        published: the published number, in percent.
        published_n: trainings it is a mean of; None, where it is not said, counts as one.

    Returns:
        Negative where ours is lower; None where ours do not say how much they vary.

    Example:
        >>> round(difference_in_sd(41.0, 0.5, 3, 42.0), 2)
        -1.73
        >>> difference_in_sd(41.0, None, 1, 42.0) is None
        True
    """
    if ours_n < 2 or not ours_sd:
        return None
    return (ours_mean - published) / (ours_sd * math.sqrt(1 / ours_n + 1 / (published_n or 1)))


@lru_cache(maxsize=1)
def everything() -> tuple[Published, ...]:
    """Every published number there is, file by file.

    Example:
        >>> sum(row.table == "S-Tab4" for row in everything())
        8
    """
    folder = files("longtail.papers") / "tables"
    texts = [file.read_text("utf-8") for file in sorted(folder.iterdir(), key=lambda each: each.name)]
    return tuple(row for text in texts for table in yaml.safe_load(text) for row in _rows(table))


def _rows(table: Mapping[str, Any]) -> Iterator[Published]:
    shared = {key: value for key, value in table.items() if key not in ("columns", "rows")}
    for row in table["rows"]:
        yield from _sets_of(shared, table["columns"], row)


def _sets_of(shared: Mapping[str, Any], columns: list[dict[str, Any]], row: Mapping[str, Any]) -> Iterator[Published]:
    """A row gives as many entries as its columns name data sets; columns of one set hold its scores."""
    own = {key: value for key, value in row.items() if key != "values"}
    found: dict[str, dict[str, Any]] = {}
    for column, value in zip(columns, row["values"], strict=True):
        about = {key: value for key, value in column.items() if key != "score"}
        entry = found.setdefault(repr(about), {"imbalance_factor": None, **shared, **about, **own, "scores": {}})
        if value is not None:
            entry["scores"][column.get("score", "top1")] = value
    return (Published(**entry) for entry in found.values() if entry["scores"])
