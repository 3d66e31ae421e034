"""What a folder, a table or a list says before a pixel is read: which files, in which part, of which class.

Shapes: N = images, C = classes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail.data.paths import check_files, relative_paths
from longtail.errors import InputError, first_ten, unknown_name

PART_NAMES = ("train", "val", "test")
PART_OF: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_WHOLE = re.compile(r"0|[1-9][0-9]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


@dataclass(frozen=True, eq=False)
class Examples:
    """Image files with their labels.

    Args:
        paths: N paths from the root, with "/" between the folders.
        targets: labels, int64, shape (N,).
    """

    paths: tuple[str, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Listing:
    """The files of a data set. Made by `make_listing`, which checks them.

    Args:
        name: as the user gave it.
        root: the folder that the paths start from.
        source: what was read.
        class_names: C names, in the order of the labels.
        parts: examples by "train", "val" and "test"; only the parts that there are.
        notes: sentences a reader of the result must know.
    """

    name: str
    root: Path
    source: Literal["folder", "table", "list"]
    class_names: tuple[str, ...]
    parts: Mapping[str, Examples]
    notes: tuple[str, ...] = ()


def make_listing(
    name: str,
    root: Path,
    source: Literal["folder", "table", "list"],
    class_names: Sequence[str],
    parts: Mapping[str, tuple[Sequence[str], Sequence[int]]],
    notes: Sequence[str] = (),
) -> Listing:
    """Check what was read, first without the disk, then on it.

    Args:
        name: as the user gave it.
        root: the folder that the paths start from.
        source: what was read.
        class_names: C names, in the order of the labels.
        parts: paths and labels by part.
        notes: sentences a reader of the result must know.

    Raises:
        InputError: if there is no image, there are fewer than two classes, a label is out of range, a class has no
            training image, or a file is missing or lies outside the root.
    """
    if not any(len(paths) for paths, _ in parts.values()):
        raise InputError(f"there is no image in {name!r}; give a folder per class, a table or a list of images")
    if len(class_names) < 2:
        only = f", {class_names[0]!r}" if class_names else ""
        raise InputError(f"{name!r} has fewer than two classes{only}; a classifier needs at least two")
    for paths, labels in parts.values():
        _check_range(name, paths, labels, len(class_names))
    examples = {
        part: Examples(relative_paths(root, paths), torch.tensor(labels, dtype=torch.int64))
        for part, (paths, labels) in parts.items()
        if len(paths)
    }
    check_class_presence(name, class_names, {part: these.targets for part, these in examples.items()})
    check_files(root, [path for these in examples.values() for path in these.paths])
    return Listing(name, root, source, tuple(class_names), examples, tuple(notes))


def _check_range(name: str, paths: Sequence[str], labels: Sequence[int], num_classes: int) -> None:
    if len(labels) and not 0 <= min(labels) <= max(labels) < num_classes:
        path, label = next(pair for pair in zip(paths, labels, strict=True) if not 0 <= pair[1] < num_classes)
        raise InputError(
            f"label {label} of {path!r} is out of range: {name!r} has {num_classes:,} classes, so labels go from 0 to "
            f"{num_classes - 1:,}"
        )


def check_class_presence(name: str, class_names: Sequence[str], targets: Mapping[str, Tensor]) -> None:
    """Make sure that every class has a training image.

    Args:
        name: of the data, for the message.
        class_names: C names.
        targets: labels by part, each of shape (N,).

    Raises:
        InputError: naming the classes that have none, apart for those that another part has images of.
    """
    num_classes = len(class_names)
    count = {part: torch.bincount(labels_N, minlength=num_classes) for part, labels_N in targets.items()}
    untrained_C = count.get("train", torch.zeros(num_classes, dtype=torch.int64)) == 0
    if bool(untrained_C.all()):
        raise InputError(f"{name!r} has no training image; mark some of the images as 'train'")
    for part in ("test", "val"):
        only_here_C = untrained_C & (count.get(part, torch.zeros_like(untrained_C)) > 0)
        if bool(only_here_C.any()):
            raise InputError(
                f"{int(only_here_C.sum()):,} of {num_classes:,} classes are seen only in the {part} part of {name!r}, "
                f"never in training; add training images or leave these out:\n{_named(class_names, only_here_C)}"
            )
    if bool(untrained_C.any()):
        raise InputError(
            f"{int(untrained_C.sum()):,} of {num_classes:,} classes of {name!r} have no training image; add some or "
            f"leave these classes out:\n{_named(class_names, untrained_C)}"
        )


def _named(class_names: Sequence[str], mask_C: Tensor) -> str:
    return first_ten(class_names[label] for label in mask_C.nonzero().flatten().tolist())


def ordered_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order of their labels: sorted, as numbers where all of them are whole numbers.

    Example:
        >>> ordered_class_names(["dog", "cat", "dog"]), ordered_class_names(["10", "9"])
        (('cat', 'dog'), ('9', '10'))
    """
    distinct = set(names)
    if all(_WHOLE.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def numbered_labels(name: str, labels: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Class names and integer labels from what a table's label column says.

    Whole numbers are labels, counted from 0 (or all from 1), and the classes are named after them; anything else is a
    class name.

    Args:
        name: of the data, for the message.
        labels: one a row, none empty.

    Raises:
        InputError: if the labels are numbers, but not whole, or negative, or with gaps.

    Example:
        >>> numbered_labels("t.csv", ["dog", "cat", "dog"])
        (('cat', 'dog'), [1, 0, 1])
        >>> numbered_labels("t.csv", ["0", "2", "1"])
        (('0', '1', '2'), [0, 2, 1])
    """
    distinct = set(labels)
    if not distinct or not all(_NUMBER.fullmatch(label) for label in distinct):
        class_names = ordered_class_names(distinct)
        label_of = {class_name: label for label, class_name in enumerate(class_names)}
        return class_names, [label_of[label] for label in labels]
    value_of = {label: _whole_number(name, label) for label in distinct}
    lowest, highest = min(value_of.values()), max(value_of.values())
    first = 1 if lowest == 1 else 0
    if lowest < 0 or highest - first >= len(labels):
        raise InputError(
            f"label {lowest if lowest < 0 else highest} in {name!r} is out of range: whole numbers are labels, and go "
            "from 0 to the number of classes less one, each with training images; use names if they are none"
        )
    absent = sorted(set(range(first, highest + 1)) - set(value_of.values()))
    if absent:
        raise InputError(
            f"{len(absent):,} of {highest + 1 - first:,} classes of {name!r} have no training image: whole numbers are "
            f"labels, which leave none out; use names if they are none, such as 'c{highest}':\n{first_ten(absent)}"
        )
    return tuple(map(str, range(first, highest + 1))), [value_of[label] - first for label in labels]


def _whole_number(name: str, label: str) -> int:
    whole, _, fraction = label.partition(".")
    if fraction.strip("0"):
        raise InputError(f"label {label} in {name!r} is no integer; use whole numbers from 0, or class names")
    return int(whole)


def part_of(name: str) -> str:
    """The part that a folder or a table entry means: "train", "val" or "test".

    Raises:
        InputError: for a name that means none.

    Example:
        >>> part_of("Validation")
        'val'
    """
    part = PART_OF.get(name.strip().lower())
    if part is None:
        raise unknown_name("split", name, PART_OF)
    return part
