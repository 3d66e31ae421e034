"""Tables of a bench: one line per method, one column per score, and marks for differences beyond chance."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from longtail.bench.results import (
    Row,
    correct_answers,
    differences,
    image_weights,
    protocol,
    read_about,
    require_alike,
    same_answers,
)
from longtail.errors import InputError
from longtail.evaluation import Difference, paired_bootstrap
from longtail.evaluation.bootstrap import LEVEL
from longtail.papers.published import Published, difference_in_sd, published

HEADINGS = {
    "top1": "all",
    "top5": "top 5",
    "mcc": "MCC",
    "nmi": "NMI",
    "ece": "ECE",
    "macro_f1": "macro F1",
    "g_mean": "G-mean",
}


@dataclass(frozen=True)
class Summary:
    """A score over seeds.

    Args:
        mean: Mean over the seeds.
        sd: Sample standard deviation (n - 1 in the denominator). None for one seed.
        n: Number of seeds.
        low: Lower end of the 95 % interval of the mean by Student's t. None for one seed.
        high: Upper end of the interval. None for one seed.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PublishedRow:
    """A published score next to ours.

    Args:
        name: Name of our row.
        ours: Our accuracy over the seeds.
        published: Published scores with their source and setting.
        distance: Ours minus published, in standard deviations of the difference. None for one seed.
    """

    name: str
    ours: Summary
    published: Published
    distance: float | None


@dataclass(frozen=True)
class Line:
    """A method in the table.

    Args:
        name: Name of the row.
        n: Number of finished seeds.
        scores: Summary by column. None where the score does not exist.
        best: Columns in which the method beats the next best by more than chance.
        against: Its accuracy minus that of the reference. None for the reference, and without a common seed.
        seconds: Training time, including shared first stages.
        older: True if a run was trained by an older version of the code.
        row: Row with the runs.
    """

    name: str
    n: int
    scores: Mapping[str, Summary | None]
    best: frozenset[str]
    against: Difference | None
    seconds: Summary | None
    older: bool
    row: Row


@dataclass(frozen=True)
class Table:
    """Comparable results: one data set, split, recipe, backbone and protocol.

    Args:
        facts: Common facts as text.
        columns: Scores, as field names of `Scores`.
        lines: Lines in the order of the plan.
        reference: Name of the line that the others are compared with. None if it is in another table.
        notes: Notes for the reader.
        published: Published scores of the same methods on the same data. They never share a column with ours.
    """

    facts: Mapping[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    reference: str | None
    notes: tuple[str, ...]
    published: tuple[PublishedRow, ...]

    @property
    def title(self) -> str:
        """Data, imbalance factor, backbone and recipe."""
        facts = self.facts
        factor = f", imbalance factor {facts['imbalance_factor']}" if facts["imbalance_factor"] else ""
        return f"{facts['data']}{factor}: {facts['backbone']}, recipe {facts['recipe']}"


def heading(column: str) -> str:
    """Return the heading of a score.

    Args:
        column: Field name of `Scores`.

    Example:
        >>> heading("top1"), heading("few"), heading("ece_few")
        ('all', 'few', 'ECE few')
    """
    if column.startswith("ece_"):
        return f"ECE {column.removeprefix('ece_')}"
    return HEADINGS.get(column, column)


def tables_of(
    rows: Sequence[Row], columns: Sequence[str], reference: str | None = None, notes: Sequence[str] = ()
) -> list[Table]:
    """Build as few tables as possible. Rows that cannot share a column get another table, with the reason.

    Args:
        rows: Rows of one data set. Rows without a finished seed are omitted.
        columns: Scores, as field names of `Scores`.
        reference: Name of the row that the others are compared with. Default: the first row of each table.
        notes: Notes of every table.

    Raises:
        InputError: If the seeds of one row cannot share a column.
    """
    groups: list[list[Row]] = []
    for row in rows:
        if not row.runs:
            continue
        home = next((group for group in groups if not differences(row.first.result, group[0].first.result)), None)
        groups.append([row]) if home is None else home.append(row)
    tables = []
    for index, group in enumerate(groups):
        apart = []
        if index:
            reasons = "; ".join(differences(group[0].first.result, groups[0][0].first.result))
            apart = [f"not comparable with the first table: {reasons}"]
        tables.append(build_table(group, columns, reference, [*notes, *apart]))
    return tables


def build_table(
    rows: Sequence[Row], columns: Sequence[str], reference: str | None = None, notes: Sequence[str] = ()
) -> Table:
    """Build one table.

    Args:
        rows: Rows with at least one finished seed each.
        columns: Scores, as field names of `Scores`.
        reference: Name of the row that the others are compared with. Default: the first row.
        notes: Notes for the reader.

    Raises:
        InputError: If there is no row, or rows differ in data, split, recipe, backbone or protocol.
    """
    if not rows:
        raise InputError("no training is finished, so there is no table; run the plan first")
    require_alike({f"{row.name} (seed {seed})": run.result for row in rows for seed, run in row.runs.items()})
    wanted = reference or rows[0].name
    base = next((row for row in rows if row.name == wanted), None)
    best = {column: _best(rows, column) for column in columns}
    lines = tuple(_line(row, columns, base, best) for row in rows)
    others = tuple(found for row in rows for found in published_rows(row))
    name = None if base is None else base.name
    return Table(_facts(rows[0]), tuple(columns), lines, name, (*notes, *_notes(rows)), others)


def published_rows(row: Row) -> Iterator[PublishedRow]:
    """Yield the published accuracies of a row's method on its data.

    Args:
        row: Row with at least one finished seed.
    """
    ours = summarize(row.values("top1"))
    if row.published is None or ours is None:
        return
    result = row.first.result
    for found in published(result["data"], result["imbalance_factor"], row.published):
        if "top1" in found.scores:
            distance = difference_in_sd(ours.mean, ours.sd, ours.n, found.scores["top1"], found.seeds)
            yield PublishedRow(row.name, ours, found, distance)


def summarize(values: Sequence[float | None], least: float = -math.inf, most: float = math.inf) -> Summary | None:
    """Return mean, standard deviation and Student's interval of the known values. None if no value is known.

    Args:
        values: One value per seed.
        least: Lower bound of the score, to which the interval is cut.
        most: Upper bound of the score, to which the interval is cut.

    Example:
        >>> found = summarize([1.0, 2.0, 3.0, None])
        >>> found.mean, found.sd, found.n, round(found.low, 2), round(found.high, 2)
        (2.0, 1.0, 3, -0.48, 4.48)
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return None
    mean = float(known.mean())
    if len(known) == 1:
        return Summary(mean, None, 1, None, None)
    sd = float(known.std(ddof=1))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * sd / math.sqrt(len(known))
    return Summary(mean, sd, len(known), max(mean - reach, least), min(mean + reach, most))


def difference(first: Row, second: Row, column: str) -> Difference | None:
    """Return the difference in accuracy of two methods over their common seeds.

    Args:
        first: Row of a table.
        second: Another row of the same table.
        column: "top1", "balanced" or a group.

    Returns:
        None without a common seed, or if the score is not a mean over test images.
    """
    seeds = [seed for seed in first.runs if seed in second.runs]
    if not seeds:
        return None
    weights = image_weights(first.runs[seeds[0]], column)
    if weights is None or not weights.any():
        return None
    return paired_bootstrap(correct_answers(first, seeds), correct_answers(second, seeds), weights)


def _line(row: Row, columns: Sequence[str], base: Row | None, best: Mapping[str, frozenset[str]]) -> Line:
    return Line(
        row.name,
        len(row.runs),
        {column: summarize(row.values(column), -100 if column == "mcc" else 0, 100) for column in columns},
        frozenset(column for column in columns if row.name in best[column]),
        None if base is None or base.name == row.name else difference(row, base, "top1"),
        summarize([run.result["cost"]["seconds"] for run in row.runs.values()]),
        bool(row.older),
        row,
    )


def _best(rows: Sequence[Row], column: str) -> frozenset[str]:
    """Return the names of the row that beats the next best by more than chance. Empty if there is none."""
    means = {row.name: summary.mean for row in rows if (summary := summarize(row.values(column))) is not None}
    ranked = sorted((row for row in rows if row.name in means), key=lambda row: -means[row.name])
    if not ranked:
        return frozenset()
    twins = [row for row in ranked if row.same_trainings(ranked[0])]
    others = [row for row in ranked if row not in twins]
    found = difference(ranked[0], others[0], column) if others else None
    return frozenset(row.name for row in twins) if found is not None and found.low > 0 else frozenset()


def _facts(row: Row) -> dict[str, str]:
    result = row.first.result
    factor = result["imbalance_factor"]
    split, backbone = result["split"], result["backbone"]
    about = read_about(row.first.folder)
    width = f" of width {backbone['width']}" if backbone.get("width") is not None else ""
    return {
        "data": str(result["data"]),
        "imbalance_factor": "" if factor is None else f"{factor:g}",
        "backbone": f"{backbone['name']}{width}{', pretrained' if backbone.get('pretrained') else ''}",
        "recipe": str(result["recipe"]),
        "protocol": protocol(result),
        "split": f"{split['name']}, {split['images']:,} training images, SHA-256 {split['sha256'][:12]}",
        "test": f"{len(about):,} test images of {len(about.class_counts):,} classes",
    }


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = []
    missing = {row.name: row.missing for row in rows if row.missing}
    if missing:
        listed = ", ".join(f"{name} (seed {', '.join(map(str, seeds))})" for name, seeds in missing.items())
        notes.append(f"not finished: {listed}")
    notes += [f"identical predictions for every test image: {', '.join(names)}" for names in same_answers(rows)]
    if any(row.older for row in rows):
        notes.append("† at least one run was trained by an older version of the code")
    if all(len(row.runs) == 1 for row in rows):
        notes.append("one seed: the intervals of the differences cover the test images, not the variation of seeds")
    return notes
