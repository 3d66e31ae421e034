"""Published numbers with their source, their setting and known reasons why ours may differ.

The files in `tables/` hold tables of the sources. A column gives the data of its numbers, and the score (`score`, by
default top-1 accuracy); a row is a method. Fields of a table apply to all its rows and columns that do not override
them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Read = Literal["paper", "readme", "log", "issue", "aggregator", "memory"]
"""Origin of a number. The last two are not verified against the source."""
Checkpoint = Literal["last", "best on test", "unknown"]


@dataclass(frozen=True)
class Published:
    """One row of a published table, for one data set.

    Args:
        table: Name of the table in `docs/sources.md`, such as "B-Tab2".
        source: Paper or repository.
        place: Table, figure or page of the source.
        read: Origin of the number.
        label: Name of the method in the source.
        method: Equivalent method recipe. None if there is none.
        data: Name of the data recipe; "lvis-v0.5" for detection.
        imbalance_factor: Imbalance factor of CIFAR-LT. None for data sets with one published split.
        backbone: Our name of the backbone if it is the same network, with its differences as text.
        recipe: Training recipe with the same settings. None if they differ or are unknown.
        training: Schedule and augmentation as text.
        checkpoint: Evaluated checkpoint.
        seeds: Number of trainings of which the number is the mean. None if the source does not state it.
        scores: Scores in percent, by the names of `Scores` ("top1", "many", ...); "ap..." for detection.
        mismatch: Known reasons why ours may differ, as a short sentence.
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
    """Return the published numbers of a data set, in the order of the files.

    Args:
        data: Name of a data recipe. Other data have no published numbers.
        imbalance_factor: Imbalance factor of CIFAR-LT. Ignored for data sets with one published split.
        method: Method recipe. None returns every row, including methods without a recipe.

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
    """Return our mean minus a published number, in standard deviations of that difference.

    The published trainings are assumed to vary as ours do. A mean of m of them then differs from a mean of n of ours
    with the standard deviation sd * sqrt(1/n + 1/m). An absolute value above 2 is unlikely to be chance.

    Args:
        ours_mean: Mean of our trainings, in percent.
        ours_sd: Sample standard deviation of our trainings. None for a single training.
        ours_n: Number of our trainings.
        published: Published number, in percent.
        published_n: Number of published trainings. None (not stated) counts as one.

    Returns:
        Negative if ours is lower. None if our standard deviation is unknown or zero.

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
    """Return all published numbers, file by file.

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
    """Yield an entry for each data set of the columns. Columns of the same data set hold its scores."""
    own = {key: value for key, value in row.items() if key != "values"}
    found: dict[str, dict[str, Any]] = {}
    for column, value in zip(columns, row["values"], strict=True):
        about = {key: value for key, value in column.items() if key != "score"}
        entry = found.setdefault(repr(about), {"imbalance_factor": None, **shared, **about, **own, "scores": {}})
        if value is not None:
            entry["scores"][column.get("score", "top1")] = value
    return (Published(**entry) for entry in found.values() if entry["scores"])
