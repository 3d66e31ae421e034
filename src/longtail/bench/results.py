"""Rows of a bench: the finished runs of each method, and whether they may share a table.

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
from longtail.evaluation import Predictions, group_options, read_predictions
from longtail.evaluation.metrics import shot_groups
from longtail.run.run import Run

Result = Mapping[str, Any]
"""Content of a `result.json`."""
ALIKE: Mapping[str, Callable[[Result], object]] = {
    "data": lambda result: result["data"],
    "imbalance factor": lambda result: result["imbalance_factor"],
    "split": lambda result: f"{result['split']['name']} ({result['split']['sha256'][:12]})",
    "recipe": lambda result: result["recipe"],
    "backbone": lambda result: _backbone(result["backbone"]),
    "protocol": lambda result: protocol(result),
    "class groups": lambda result: " ".join(map(str, result["class_groups"].values())),
}
"""Facts that must agree within a column, and how to read them."""


@dataclass(frozen=True)
class Row:
    """A method with its finished runs.

    Args:
        name: Name of the row.
        runs: Finished runs by seed.
        missing: Seeds without a finished run.
        published: Method recipe whose published scores are shown next to the row.
        older: Seeds whose run was trained by an older version of the code.
    """

    name: str
    runs: Mapping[int, Run]
    missing: tuple[int, ...] = ()
    published: str | None = None
    older: frozenset[int] = frozenset()

    @property
    def first(self) -> Run:
        """Run of the first seed."""
        return next(iter(self.runs.values()))

    def values(self, column: str) -> list[float | None]:
        """Return a score of each seed."""
        return [run.result["test"].get(column) for run in self.runs.values()]

    def same_trainings(self, other: "Row") -> bool:
        """Return whether both rows are names of the same cells."""
        mine, theirs = ({run.folder for run in row.runs.values()} for row in (self, other))
        return mine == theirs


def finished_run(cell: Cell, out: Path, older: Mapping[str, Sequence[Path]] | None = None) -> Run | None:
    """Return the finished run of a cell, or None.

    Args:
        cell: Cell of a plan.
        out: Folder of the bench.
        older: Folders from `older_cells`. The latest of them is accepted if the current code has no result.
    """
    own = cell.folder(out)
    if (own / "result.json").is_file():
        return Run(own)
    results = [folder / "result.json" for folder in (older or {}).get(cell.settings, ())]
    found = [path for path in results if path.is_file()]
    return Run(max(found, key=lambda path: path.stat().st_mtime).parent) if found else None


def older_cells(out: Path) -> dict[str, list[Path]]:
    """Return the folders of all cells of any code version, by the hash of their settings.

    Args:
        out: Folder of the bench.

    Raises:
        InputError: If a cell.json is damaged.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted((out / "cells").glob("*/cell.json")):
        try:
            settings = str(json.loads(path.read_text("utf-8"))["settings"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"cannot read {path}: {error!r}; remove its folder") from error
        found.setdefault(settings, []).append(path.parent)
    return found


def differences(first: Result, second: Result) -> list[str]:
    """Return the reasons why two results cannot share a column. Empty if they can.

    Args:
        first: Content of a `result.json`.
        second: Content of another one.
    """
    pairs = {what: (read(first), read(second)) for what, read in ALIKE.items()}
    return [f"{what} {one}, not {other}" for what, (one, other) in pairs.items() if one != other]


def require_alike(results: Mapping[str, Result]) -> None:
    """Require that results can share a column.

    Args:
        results: Contents of `result.json` by the name of the row.

    Raises:
        InputError: If they differ in data, split, recipe, backbone or protocol. The message names the differences.
    """
    names = list(results)
    for name in names[1:]:
        reasons = differences(results[name], results[names[0]])
        if reasons:
            raise InputError(
                f"{name} and {names[0]} cannot share a column: {'; '.join(reasons)}. Such scores are not comparable; "
                "use separate tables, or train both under the same settings"
            )


def correct_answers(row: Row, seeds: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return which test images are classified correctly, shape (S, N).

    Args:
        row: Row with these seeds.
        seeds: Seeds, in the order of the returned rows.
    """
    return np.stack([_correct(row.runs[seed].folder) for seed in seeds])


def same_answers(rows: Sequence[Row]) -> list[list[str]]:
    """Return groups of at least two rows that predict the same class for every test image and seed.

    Args:
        rows: Rows of one table.
    """
    groups: dict[tuple[tuple[int, bytes], ...], list[str]] = {}
    for row in rows:
        answers = tuple(sorted((seed, _answers(run.folder)) for seed, run in row.runs.items()))
        groups.setdefault(answers, []).append(row.name)
    return [names for names in groups.values() if len(names) > 1]


def image_weights(run: Run, column: str) -> npt.NDArray[np.float64] | None:
    """Return the weight of each test image in a score that is a mean over images, shape (N,).

    Args:
        run: Any run of the table.
        column: "top1" weights images equally; "balanced" and the groups weight classes equally.

    Returns:
        None for any other score.
    """
    found = read_about(run.folder)
    sizes_C = np.maximum(np.bincount(found.targets.numpy(), minlength=len(found.class_counts)), 1)
    if column == "top1":
        return np.ones(len(found.targets))
    options = group_options(run.result["class_groups"])
    masks = {name: mask.numpy() for name, mask in shot_groups(found.class_counts, **options).items()}
    mask_C = np.ones(len(sizes_C)) if column == "balanced" else masks.get(column)
    return None if mask_C is None else (mask_C / sizes_C)[found.targets.numpy()]


@lru_cache(maxsize=2)
def read_about(folder: Path) -> Predictions:
    """Read the predictions of a run, for the classes and labels that all runs of a table share."""
    return read_predictions(folder)


def protocol(result: Result) -> str:
    """Return the protocol of a result as text."""
    chosen = result["protocol"]["selected_on"]
    return "last checkpoint" if chosen is None else f"best checkpoint on the {chosen} set"


def _backbone(about: Mapping[str, Any]) -> str:
    pretrained = ", pretrained" if about.get("pretrained") else ""
    return f"{about['name']} (width {about['width']}{pretrained})"


# Only the small arrays are kept: a bench has hundreds of runs, whose logits would not fit into the memory.
@cache
def _correct(folder: Path) -> npt.NDArray[np.bool_]:
    found = read_predictions(folder)
    correct: npt.NDArray[np.bool_] = (found.predicted == found.targets).numpy()
    return correct


@cache
def _answers(folder: Path) -> bytes:
    return read_predictions(folder).predicted.numpy().tobytes()
