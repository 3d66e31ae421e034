"""The table: a line per method, a column per score, and a mark only where the difference is more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longtail.bench.beside import Beside, beside
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
from longtail.bench.statistics import Summary, summarize
from longtail.errors import InputError
from longtail.evaluation import Difference, paired_bootstrap

HEADINGS = {"top1": "all", "mcc": "MCC", "nmi": "NMI", "ece": "ECE", "macro_f1": "macro F1", "g_mean": "G-mean"}


@dataclass(frozen=True)
class Line:
    """A method in the table.

    Args:
        name: of the row.
        n: seeds that are done.
        scores: by column; None where there is nothing to measure.
        best: columns in which it beats the next best one by more than chance.
        against: its accuracy less that of the reference; None for the reference, and where no seed is shared.
        seconds: training time, that of shared first stages included.
        older: some of it was trained by an older version of the code.
        row: what it was made of.
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
    """Results that compare: one data set, split, recipe, backbone and protocol.

    Args:
        facts: what they share, in words.
        columns: scores, names of fields of `Scores`.
        lines: in the order of the plan.
        reference: the line that the others are compared with; None where it is in another table.
        notes: sentences that a reader must know.
        published: what others report of the same methods on the same data; never in a column with ours.
    """

    facts: Mapping[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    reference: str | None
    notes: tuple[str, ...]
    published: tuple[Beside, ...]

    @property
    def title(self) -> str:
        """Data, imbalance factor, backbone and recipe."""
        facts = self.facts
        factor = f", imbalance factor {facts['imbalance_factor']}" if facts["imbalance_factor"] else ""
        return f"{facts['data']}{factor}: {facts['backbone']}, recipe {facts['recipe']}"


def heading(column: str) -> str:
    """The heading of a score.

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
    """Tables of all rows, as few as can be: what can not share a column stands apart, with the reason.

    Args:
        rows: of one data set; those without a finished seed are left out.
        columns: scores, names of fields of `Scores`.
        reference: name of the row that the others are compared with; None takes the first of each table.
        notes: sentences for every table.

    Raises:
        InputError: if the seeds of one row can not share a column.
    """
    groups: list[list[Row]] = []
    for row in rows:
        if not row.outcomes:
            continue
        home = next((group for group in groups if not differences(row.first, group[0].first)), None)
        groups.append([row]) if home is None else home.append(row)
    tables = []
    for index, group in enumerate(groups):
        apart = []
        if index:
            reasons = "; ".join(differences(group[0].first, groups[0][0].first))
            apart = [f"apart from the first table, as such numbers do not compare: {reasons}"]
        tables.append(build_table(group, columns, reference, [*notes, *apart]))
    return tables


def build_table(
    rows: Sequence[Row], columns: Sequence[str], reference: str | None = None, notes: Sequence[str] = ()
) -> Table:
    """One table.

    Args:
        rows: each with a finished seed.
        columns: scores, names of fields of `Scores`.
        reference: name of the row that the others are compared with; None takes the first.
        notes: sentences for the reader.

    Raises:
        InputError: if there is no row, or rows differ in data, split, recipe, backbone or protocol.
    """
    if not rows:
        raise InputError("nothing is finished yet, so there is no table; run the plan first")
    require_alike({f"{row.name} (seed {seed})": each.result for row in rows for seed, each in row.outcomes.items()})
    wanted = reference or rows[0].name
    base = next((row for row in rows if row.name == wanted), None)
    best = {column: _best(rows, column) for column in columns}
    lines = tuple(_line(row, columns, base, best) for row in rows)
    others = tuple(found for row in rows for found in beside(row))
    name = None if base is None else base.name
    return Table(_facts(rows[0]), tuple(columns), lines, name, (*notes, *_notes(rows)), others)


def _line(row: Row, columns: Sequence[str], base: Row | None, best: Mapping[str, frozenset[str]]) -> Line:
    return Line(
        row.name,
        len(row.outcomes),
        {column: summarize(row.values(column), -100 if column == "mcc" else 0, 100) for column in columns},
        frozenset(column for column in columns if row.name in best[column]),
        None if base is None or base.name == row.name else difference(row, base, "top1"),
        summarize([outcome.result["cost"]["seconds"] for outcome in row.outcomes.values()]),
        any(outcome.older for outcome in row.outcomes.values()),
        row,
    )


def difference(first: Row, second: Row, column: str) -> Difference | None:
    """How much more accurate one method is than another, over the seeds that both have.

    Args:
        first: a row.
        second: another, of the same table.
        column: "top1", "balanced" or a group; another score is no mean over test images.

    Returns:
        None if they share no seed, or the score is of another kind.
    """
    seeds = [seed for seed in first.outcomes if seed in second.outcomes]
    if not seeds:
        return None
    weights = image_weights(first.outcomes[seeds[0]], column)
    if weights is None or not weights.any():
        return None
    return paired_bootstrap(correct_answers(first, seeds), correct_answers(second, seeds), weights)


def _best(rows: Sequence[Row], column: str) -> frozenset[str]:
    """Names of the row that beats the next best by more than chance (and of its twins); none, if none does."""
    means = {row.name: summary.mean for row in rows if (summary := summarize(row.values(column))) is not None}
    ranked = sorted((row for row in rows if row.name in means), key=lambda row: -means[row.name])
    if not ranked:
        return frozenset()
    twins = [row for row in ranked if row.same_trainings(ranked[0])]
    others = [row for row in ranked if row not in twins]
    found = difference(ranked[0], others[0], column) if others else None
    return frozenset(row.name for row in twins) if found is not None and found.low > 0 else frozenset()


def _facts(row: Row) -> dict[str, str]:
    result: Mapping[str, Any] = row.first
    factor = result["imbalance_factor"]
    split, backbone = result["split"], result["backbone"]
    about = read_about(next(iter(row.outcomes.values())).folder)
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
    notes += [f"these call every test image the same: {', '.join(names)}" for names in same_answers(rows)]
    if any(outcome.older for row in rows for outcome in row.outcomes.values()):
        notes.append("† trained, at least in part, by an older version of the code")
    if all(len(row.outcomes) == 1 for row in rows):
        notes.append(
            "one seed: the intervals of the differences know of the test images only, not of the luck of a seed"
        )
    return notes
