"""What finished cells say, and which of them may stand in one column.

Shapes: S = seeds, N = test images, C = classes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.bench.cells import Cell
from longtail.errors import InputError
from longtail.evaluation import Predictions, group_options, read_predictions, read_result
from longtail.evaluation.metrics import shot_groups

ALIKE: dict[
    str, Callable[[Mapping[str, Any]], object]
] = {  # what must agree within a column, and how to read it from a result
    "data": lambda result: result["data"],
    "imbalance factor": lambda result: result["imbalance_factor"],
    "split": lambda result: f"{result['split']['name']} ({result['split']['sha256'][:12]})",
    "recipe": lambda result: result["recipe"],
    "backbone": lambda result: _backbone(result["backbone"]),
    "protocol": lambda result: protocol(result),
    "class groups": lambda result: " ".join(map(str, result["class_groups"].values())),
}


@dataclass(frozen=True)
class Outcome:
    """A finished cell.

    Args:
        folder: of its run.
        result: the content of its `result.json`.
        older: it was trained by an older version of the code.
    """

    folder: Path
    result: Mapping[str, Any]
    older: bool = False

    @property
    def test(self) -> Mapping[str, Any]:
        """The scores."""
        scores: Mapping[str, Any] = self.result["test"]
        return scores


@dataclass(frozen=True)
class Row:
    """A method with what came of it.

    Args:
        name: of the row.
        outcomes: by seed, of the seeds that are finished.
        missing: seeds that are not.
        published: the method recipe whose published figures stand beside it.
    """

    name: str
    outcomes: Mapping[int, Outcome]
    missing: tuple[int, ...] = ()
    published: str | None = None

    @property
    def first(self) -> Mapping[str, Any]:
        """The result of its first seed, which stands for all: they share a column."""
        return next(iter(self.outcomes.values())).result

    def values(self, column: str) -> list[float | None]:
        """A score, seed by seed."""
        return [outcome.test.get(column) for outcome in self.outcomes.values()]

    def same_trainings(self, other: "Row") -> bool:
        """Whether both rows are names of the same cells."""
        mine, theirs = ({outcome.folder for outcome in row.outcomes.values()} for row in (self, other))
        return mine == theirs


def outcome_of(cell: Cell, out: Path, older: Mapping[str, Sequence[Path]] | None = None) -> Outcome | None:
    """What came of a cell, if it is finished.

    Args:
        cell: of a plan.
        out: folder of the bench.
        older: as `older_cells` finds them: where there is none by the present code, the latest of these stands in.
    """
    result = _result(cell.folder(out))
    if result is not None:
        return Outcome(cell.folder(out), result)
    folders = [folder for folder in (older or {}).get(cell.settings, ()) if _result(folder) is not None]
    if not folders:
        return None
    latest = max(folders, key=lambda folder: (folder / "result.json").stat().st_mtime)
    return Outcome(latest, _result(latest) or {}, older=True)


def older_cells(out: Path) -> dict[str, list[Path]]:
    """Folders of all cells, whatever the version of the code, by the hash of their settings.

    Args:
        out: folder of the bench.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((out / "cells").glob("*/cell.json")):
        found.setdefault(json.loads(path.read_text())["settings"], []).append(path.parent)
    return found


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Why two results can not stand in one column; nothing if they can.

    Args:
        first: content of a `result.json`.
        second: of another.
    """
    pairs = {what: (read(first), read(second)) for what, read in ALIKE.items()}
    return [f"{what} {one}, not {other}" for what, (one, other) in pairs.items() if one != other]


def require_alike(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Results that are to share a column.

    Args:
        results: content of `result.json` by the name of the row.

    Raises:
        InputError: if they differ in data, split, recipe, backbone or protocol, saying in what.
    """
    names = list(results)
    for name in names[1:]:
        reasons = differences(results[name], results[names[0]])
        if reasons:
            raise InputError(
                f"{name} and {names[0]} can not share a column: {'; '.join(reasons)}. Such numbers do not compare; "
                "give each its own table, or train both alike"
            )


def correct_answers(row: Row, seeds: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which test images a method got right, seed by seed."""
    return np.stack([_correct(row.outcomes[seed].folder) for seed in seeds])


def same_answers(rows: Sequence[Row]) -> list[list[str]]:
    """Names of rows that call every test image the same, seed by seed; each group has at least two."""
    groups: dict[tuple[tuple[int, bytes], ...], list[str]] = {}
    for row in rows:
        answers = tuple(sorted((seed, _answers(each.folder)) for seed, each in row.outcomes.items()))
        groups.setdefault(answers, []).append(row.name)
    return [names for names in groups.values() if len(names) > 1]


def image_weights(outcome: Outcome, column: str) -> npt.NDArray[np.float64] | None:
    """What a test image counts for in a score that is a mean over images; None for any other score.

    Args:
        outcome: of any row of the table.
        column: "top1" counts images, "balanced" and the groups count classes.
    """
    found = read_about(outcome.folder)
    sizes_C = np.maximum(np.bincount(found.targets.numpy(), minlength=len(found.class_counts)), 1)
    if column == "top1":
        return np.ones(len(found.targets))
    options = group_options(outcome.result["class_groups"])
    masks = {name: mask.numpy() for name, mask in shot_groups(found.class_counts, **options).items()}
    mask_C = np.ones(len(sizes_C)) if column == "balanced" else masks.get(column)
    return None if mask_C is None else (mask_C / sizes_C)[found.targets.numpy()]


@lru_cache(maxsize=2)
def read_about(folder: Path) -> Predictions:
    """The predictions of a run, for its classes and labels."""
    return read_predictions(folder)


def protocol(result: Mapping[str, Any]) -> str:
    """The protocol of a result, in words."""
    chosen = result["protocol"]["selected_on"]
    return "last checkpoint" if chosen is None else f"best checkpoint on the {chosen} set"


def _backbone(about: Mapping[str, Any]) -> str:
    pretrained = ", pretrained" if about.get("pretrained") else ""
    return f"{about['name']} (width {about['width']}{pretrained})"


@cache
def _correct(folder: Path) -> npt.NDArray[np.bool_]:
    found = read_predictions(folder)
    correct: npt.NDArray[np.bool_] = (found.predicted == found.targets).numpy()
    return correct


@cache
def _answers(folder: Path) -> bytes:
    return read_predictions(folder).predicted.numpy().tobytes()


def _result(folder: Path) -> dict[str, Any] | None:
    path = folder / "result.json"
    return read_result(path) if path.exists() else None
