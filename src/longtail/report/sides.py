"""The sides of a comparison: runs or prediction files, and whether they can be compared.

Shapes: N = test images, C = classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, merged_groups, read_predictions
from longtail.report.confusions import Confusion, confusions, main_confusions
from longtail.run.run import Run

MAX_SIDES = 8
"""Most sides of one comparison."""


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison: a run, or the predictions of any tool.

    Args:
        label: Name on the page.
        place: Folder of the run, or the file.
        predictions: Predictions on N test images.
        scores: Scores of the predictions.
        run: Run; None for a file.
        result: Content of the run's `result.json`; empty for a file.
    """

    label: str
    place: Path
    predictions: Predictions
    scores: Scores
    run: Run | None = None
    result: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def main_confusions(self) -> dict[int, Confusion]:
        """Most frequent confusion of each class that has one."""
        found = self.predictions
        return main_confusions(confusions(found.predicted, found.targets, len(found.class_names)))


def read_sides(
    places: Sequence[Path],
    counts: str | None = None,
    groups: Mapping[str, Any] | None = None,
    names: Sequence[str] = (),
) -> tuple[list[Side], dict[str, Any]]:
    """Read runs and prediction files and check that they can be compared.

    Args:
        places: Folders of finished runs, or files as `read_predictions` takes them; 2 to 8, the reference first.
        counts: Training images per class, for files without them.
        groups: Options of `evaluate_logits` that replace those of the reference.
        names: Name of each side, in their order. Empty names them by their methods.

    Returns:
        The sides, and the options by which their classes are grouped.

    Raises:
        InputError: If there are fewer than 2 or more than 8, one cannot be read, they differ in split, test images or
            classes, or there is not one distinct name per side.

    Example:
        >>> read_sides([Path("runs/a")])
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: a comparison takes 2 to 8 runs or prediction files, the reference first, got 1
    """
    if not 2 <= len(places) <= MAX_SIDES:
        raise InputError(
            f"a comparison takes 2 to {MAX_SIDES} runs or prediction files, the reference first, got {len(places)}"
        )
    if names and (len(names) != len(places) or len(set(names)) < len(names) or not all(map(str.strip, names))):
        raise InputError(f"`names` must be {len(places)} distinct names, one per side, got {', '.join(names)}")
    runs = [Run.load(place) if place.is_dir() else None for place in places]
    if counts is not None and all(runs):
        raise InputError(f"`counts` {counts} has no effect, because every side is a run with its own; leave it out")
    results = [run.result if run else {} for run in runs]
    read = [
        run.predictions() if run else read_predictions(place, counts) for run, place in zip(runs, places, strict=True)
    ]
    for place, result, predictions in zip(places[1:], results[1:], read[1:], strict=True):
        _require_same_task((places[0], results[0], read[0]), (place, result, predictions))
    options = merged_groups(runs[0].groups if runs[0] else {}, groups or {})
    parts = zip(names or _labels(places, results), places, read, runs, results, strict=True)
    sides = [
        Side(label, place, found, found.scores(**options), run, result) for label, place, found, run, result in parts
    ]
    return sides, options


_Read = tuple[Path, Mapping[str, Any], Predictions]


def _require_same_task(first: _Read, second: _Read) -> None:
    """Refuse sides with other classes, test images, training counts or splits."""
    (place, result, one), (other_place, other_result, two) = first, second
    both = f"{place} and {other_place} cannot be compared"
    if len(one.class_names) != len(two.class_names):
        raise InputError(f"{both}: they have {len(one.class_names)} and {len(two.class_names)} classes")
    pairs = list(zip(one.class_names, two.class_names, strict=True))
    other_name = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if other_name and _has_names(one) and _has_names(two):
        raise InputError(f"{both}: their classes differ, first {other_name[0]!r} and {other_name[1]!r}")
    if len(one) != len(two) or not torch.equal(one.targets, two.targets):
        raise InputError(
            f"{both}: their test labels differ, so their test images or the order of the images differ; compare runs "
            "on one data set, and sort the rows of a file like those of the first"
        )
    splits = [_split(each) for each in (result, other_result)]
    if None not in splits and splits[0] != splits[1]:
        raise InputError(f"{both}: their splits differ, {splits[0]} and {splits[1]}; train them on the same split")
    if not torch.equal(one.class_counts, two.class_counts):
        label = int((one.class_counts != two.class_counts).nonzero()[0])
        sizes = f"{int(one.class_counts[label]):,} and {int(two.class_counts[label]):,}"
        raise InputError(f"{both}: class {one.class_names[label]!r} had {sizes} training images")


def _has_names(predictions: Predictions) -> bool:
    return predictions.class_names != tuple(map(str, range(len(predictions.class_names))))


def _split(result: Mapping[str, Any]) -> str | None:
    split = result.get("split")
    if not isinstance(split, Mapping) or "sha256" not in split:
        return None
    return f"{split.get('name')} ({str(split['sha256'])[:12]})"


def _labels(places: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return distinct short names: the method, and whatever distinguishes runs of one method."""
    base = [
        str(result.get("method") or (place.resolve().name if place.is_dir() else place.stem))
        for place, result in zip(places, results, strict=True)
    ]
    labels = list(base)
    for kind in ("recipe", "backbone", "seed"):
        values = [_format_setting(kind, result) for result in results]
        for same in _repeated(labels):
            if len({values[index] for index in same}) > 1:
                for index in same:
                    labels[index] += f", {values[index]}"
    for same in _repeated(labels):
        for index in same:
            labels[index] = f"{base[index]} ({places[index]})"
    for same in _repeated(labels):
        raise InputError(f"{places[same[0]]} is given twice; give each run once")
    return labels


def _format_setting(kind: str, result: Mapping[str, Any]) -> str:
    value = result.get(kind)
    return f"{kind} {value.get('name') if isinstance(value, Mapping) else value}"


def _repeated(labels: Sequence[str]) -> Iterator[list[int]]:
    """Yield the indices of each label that occurs more than once."""
    for label in dict.fromkeys(labels):
        where = [index for index, each in enumerate(labels) if each == label]
        if len(where) > 1:
            yield where
