"""The runs and prediction files that are compared, and whether they may be.

Shapes: N = test images, C = classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, group_options, read_predictions, read_result
from longtail.report.mistakes import Mixup, main_mixups, mixups
from longtail.run.folder import load_config

MOST = 8
"""Contenders on one page; with more, nobody reads it."""


@dataclass(frozen=True, eq=False)
class Contender:
    """One side of a comparison.

    Args:
        label: what the page calls it.
        place: the run's folder, or the file.
        predictions: of N test images.
        scores: what they are worth.
        result: the run's `result.json`; empty for a file.
        length: of its first training, in words; "" where it is not known.
    """

    label: str
    place: Path
    predictions: Predictions
    scores: Scores
    result: Mapping[str, Any] = field(default_factory=dict)
    length: str = ""

    @cached_property
    def main_mixups(self) -> dict[int, Mixup]:
        """For each class with a mistake, what it is most often taken for."""
        found = self.predictions
        return main_mixups(mixups(found.predicted, found.targets, len(found.class_names)))


def read_contenders(
    places: Sequence[Path], counts: str | None = None, groups: Mapping[str, Any] | None = None
) -> tuple[list[Contender], dict[str, Any]]:
    """Read runs and prediction files, the reference first, and refuse what cannot be compared.

    Args:
        places: folders of finished runs, or files as `read_predictions` takes them; 2 to 8.
        counts: training images per class, where a file lacks them.
        groups: options of `evaluate_logits` that go before those of the reference.

    Returns:
        The contenders, and the options that their groups were made with.

    Raises:
        InputError: for another number of them, one that cannot be read, or other splits, test images or classes.

    Example:
        >>> read_contenders([Path("runs/a")])
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: a comparison takes 2 to 8 runs or prediction files, the reference first, not 1
    """
    if not 2 <= len(places) <= MOST:
        raise InputError(
            f"a comparison takes 2 to {MOST} runs or prediction files, the reference first, not {len(places)}"
        )
    results = [read_result(place / "result.json") if place.is_dir() else {} for place in places]
    read = [read_predictions(place, None if place.is_dir() else counts) for place in places]
    for place, result, predictions in zip(places[1:], results[1:], read[1:], strict=True):
        _refuse_others(places[0], place, results[0], result, read[0], predictions)
    options = {**group_options(results[0].get("class_groups")), **(groups or {})}
    labels = _labels(places, results)
    sides = zip(labels, places, read, results, strict=True)
    contenders = [
        Contender(label, place, found, found.scores(**options), result, _length(place))
        for label, place, found, result in sides
    ]
    return contenders, options


def _length(place: Path) -> str:
    """How long a run's first stage trains, as its configuration says."""
    if not (place / "config.yaml").is_file():
        return ""
    training = load_config(place).stages[0].training_settings()
    return "" if training is None else training.length


def _refuse_others(
    first: Path, second: Path, result: Mapping[str, Any], other: Mapping[str, Any], one: Predictions, two: Predictions
) -> None:
    """Only answers to the same questions, learnt from the same images, can be compared."""
    both = f"{first} and {second} can not be compared"
    if len(one.class_names) != len(two.class_names):
        raise InputError(f"{both}: they have {len(one.class_names)} and {len(two.class_names)} classes")
    pairs = list(zip(one.class_names, two.class_names, strict=True))
    other_name = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if other_name and _named(one) and _named(two):
        raise InputError(f"{both}: their classes differ, first {other_name[0]!r} and {other_name[1]!r}")
    if len(one) != len(two) or not torch.equal(one.targets, two.targets):
        raise InputError(
            f"{both}: their test labels differ, so they did not see the same test images in the same order; "
            "compare runs of one data set, and give the rows of a file the order of the first"
        )
    splits = [_split(each) for each in (result, other)]
    if None not in splits and splits[0] != splits[1]:
        raise InputError(f"{both}: they were trained on other splits, {splits[0]} and {splits[1]}; train them on one")
    if not torch.equal(one.class_counts, two.class_counts):
        label = int((one.class_counts != two.class_counts).nonzero()[0])
        sizes = f"{int(one.class_counts[label]):,} and {int(two.class_counts[label]):,}"
        raise InputError(f"{both}: class {one.class_names[label]!r} had {sizes} training images")


def _named(predictions: Predictions) -> bool:
    return predictions.class_names != tuple(map(str, range(len(predictions.class_names))))


def _split(result: Mapping[str, Any]) -> str | None:
    split = result.get("split")
    if not isinstance(split, Mapping) or "sha256" not in split:
        return None
    return f"{split.get('name')} ({str(split['sha256'])[:12]})"


def _labels(places: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names that tell the contenders apart: the method, with what differs where two are of one method."""
    base = [
        str(result.get("method") or (place.resolve().name if place.is_dir() else place.stem))
        for place, result in zip(places, results, strict=True)
    ]
    labels = list(base)
    for kind in ("recipe", "backbone", "seed"):
        values = [_told(kind, result) for result in results]
        for twins in _twins(labels):
            if len({values[index] for index in twins}) > 1:
                for index in twins:
                    labels[index] += f", {values[index]}"
    for twins in _twins(labels):
        for index in twins:
            labels[index] = f"{base[index]} ({places[index]})"
    for twins in _twins(labels):
        raise InputError(f"{places[next(iter(twins))]} is given twice; give each run once")
    return labels


def _told(kind: str, result: Mapping[str, Any]) -> str:
    value = result.get(kind)
    return f"{kind} {value.get('name') if isinstance(value, Mapping) else value}"


def _twins(labels: Sequence[str]) -> Iterable[list[int]]:
    """The places of each label that is there more than once."""
    for label in dict.fromkeys(labels):
        where = [index for index, each in enumerate(labels) if each == label]
        if len(where) > 1:
            yield where
