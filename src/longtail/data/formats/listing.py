"""Image files with their classes and splits, as read from a folder, a table or a list, and checked.

Shapes: N = images, C = classes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail._tables import MISSING, clean_labels, is_whole_number, whole_number
from longtail.data.dataset import Omission
from longtail.data.formats.paths import locate_files, relative_paths
from longtail.data.scan import EVERYTHING, Selection
from longtail.errors import InputError, first_ten, naming, unknown_name

SPLIT_NAMES = ("train", "val", "test")
SPLIT_ALIASES: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

EMPTY_CLASS_REMEDY = 'add training images, remove these classes, or set `empty_classes` to "keep" or "drop"'
GROUP_RULES = ("auto", "none", "folder", "name", "similar")
"""Values of `DataConfig.group` that are no column of a table."""
TEST_WORDS = frozenset(("test", "testing", "holdout", "heldout", "eval", "evaluation"))
"""Words in the name of a file that may be a test split."""
DIGITS = 18
_INTEGER = re.compile(r"0|[1-9][0-9]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)([.,][0-9]*)?")


@dataclass(frozen=True, eq=False)
class Examples:
    """Image files with their labels.

    Args:
        paths: N paths relative to the root, with "/" between folders.
        targets: Labels, int64, shape (N,).
        groups: Group of each image in a table, "" for an image of its own. None without groups.
    """

    paths: tuple[str, ...]
    targets: Tensor
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, eq=False)
class Listing:
    """Files of a data set. Create it with `make_listing`, which checks them.

    Args:
        name: Name or path given by the user.
        root: Folder to which the paths are relative.
        source: Kind of data.
        class_names: C names, in the order of the labels.
        parts: Examples of each split that exists, under "train", "val" and "test".
        notes: Sentences for the reader of a result.
        passed_over: Files that were left out, by reason.
    """

    name: str
    root: Path
    source: Literal["folder", "table", "list"]
    class_names: tuple[str, ...]
    parts: Mapping[str, Examples]
    notes: tuple[str, ...] = ()
    passed_over: tuple[Omission, ...] = ()


def make_listing(
    name: str,
    root: Path,
    source: Literal["folder", "table", "list"],
    class_names: Sequence[str],
    parts: Mapping[str, tuple[Sequence[str], Sequence[int]]],
    notes: Sequence[str] = (),
    *,
    selection: Selection = EVERYTHING,
    are_files: bool = True,
    passed_over: Sequence[Omission] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Listing:
    """Check labels and paths, and then that the files exist.

    Args:
        name: Name or path given by the user.
        root: Folder to which the paths are relative.
        source: Kind of data.
        class_names: C names, in the order of the labels.
        parts: Paths and labels of each split.
        notes: Sentences for the reader of a result.
        selection: Choice of files, of which `follow_links` and `allow_empty` are used.
        are_files: Whether each path is a file. Otherwise it is a row of a table with the bytes of the image.
        passed_over: Files that were left out, by reason.
        groups: Group of each image of each split.

    Raises:
        InputError: If there is no image, there are fewer than two classes, a label is out of range, a class has no
            training image, or a file is missing or outside the root.
    """
    if not any(len(paths) for paths, _ in parts.values()):
        raise InputError(f"there is no image in {name!r}; give one folder per class, a table or a list of images")
    if len(class_names) < 2 and not selection.allow_empty:
        only = f", {class_names[0]!r}" if class_names else ""
        raise InputError(f"{name!r} has fewer than two classes{only}; a classifier needs at least two")
    for paths, labels in parts.values():
        _check_range(name, paths, labels, len(class_names))
    targets = {part: torch.tensor(labels, dtype=torch.int64) for part, (_, labels) in parts.items() if len(labels)}
    if not selection.allow_empty:
        check_class_presence(name, class_names, targets, EMPTY_CLASS_REMEDY)
    with naming(name):
        paths_by_part = {part: relative_paths(root, parts[part][0]) for part in targets}
        given = [path for paths in paths_by_part.values() for path in paths]
        located = iter(locate_files(root, given, selection.follow_links) if are_files else given)
    examples = {
        part: Examples(
            tuple(next(located) for _ in paths), targets[part], None if groups is None else tuple(groups[part])
        )
        for part, paths in paths_by_part.items()
    }
    return Listing(name, root, source, tuple(class_names), examples, tuple(notes), tuple(passed_over))


def _check_range(name: str, paths: Sequence[str], labels: Sequence[int], num_classes: int) -> None:
    if len(labels) and not 0 <= min(labels) <= max(labels) < num_classes:
        path, label = next(pair for pair in zip(paths, labels, strict=True) if not 0 <= pair[1] < num_classes)
        raise InputError(
            f"label {label} of {path!r} is out of range: {name!r} has {num_classes:,} classes, so labels must be 0 to "
            f"{num_classes - 1:,}"
        )


def check_class_presence(
    name: str,
    class_names: Sequence[str],
    targets: Mapping[str, Tensor],
    remedy: str = "add training images or remove these classes",
) -> None:
    """Check that every class has a training image.

    Args:
        name: Name of the data, for messages.
        class_names: C names.
        targets: Labels of each split, shape (N,).
        remedy: Advice, for messages.

    Raises:
        InputError: If a class has no training image. Classes that occur in another split are reported separately.
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
                f"{int(only_here_C.sum()):,} of {num_classes:,} classes occur only in the {part} split of {name!r}, "
                f"never in training; {remedy}:\n{_named(class_names, only_here_C)}"
            )
    if bool(untrained_C.any()):
        raise InputError(
            f"{int(untrained_C.sum()):,} of {num_classes:,} classes of {name!r} have no training image; {remedy}:\n"
            f"{_named(class_names, untrained_C)}"
        )


def _named(class_names: Sequence[str], mask_C: Tensor) -> str:
    return first_ten(class_names[label] for label in mask_C.nonzero().flatten().tolist())


def ordered_class_names(names: Iterable[str]) -> tuple[str, ...]:
    """Sort distinct class names into the order of their labels, numerically if all of them are integers.

    Example:
        >>> ordered_class_names(["dog", "cat", "dog"]), ordered_class_names(["10", "9"])
        (('cat', 'dog'), ('9', '10'))
    """
    distinct = set(names)
    if all(_INTEGER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=int))
    return tuple(sorted(distinct))


def numbered_labels(name: str, labels: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Convert a label column to class names and integer labels.

    Integers without gaps are labels, counted from 0 (or all from 1), and name their classes. Other integers and other
    texts are class names. Names are compared in the Unicode form NFC.

    Args:
        name: Name of the data, for messages.
        labels: Label of each row, none of them empty.

    Returns:
        C class names, and N labels in [0, C).

    Raises:
        InputError: If a label is a text that other tools write for a missing value, or the labels are numbers of which
            one is fractional or negative.

    Example:
        >>> numbered_labels("t.csv", ["dog", "cat", "dog"])
        (('cat', 'dog'), [1, 0, 1])
        >>> numbered_labels("t.csv", ["7", "3.0", "12"])
        (('3', '7', '12'), [1, 0, 2])
    """
    texts = clean_labels(labels)
    distinct = set(texts)
    missing = sorted(distinct & MISSING)
    if missing:
        rows = [row for row, text in enumerate(texts, 1) if text in MISSING]
        raise InputError(
            f"{len(rows):,} of {len(texts):,} rows of {name!r} have the label {missing[0]!r}, first in row "
            f"{rows[0]:,}, which means a missing value; fill in the labels, remove the rows, or rename the class"
        )
    if distinct and all(_NUMBER.fullmatch(text) and len(text) <= DIGITS for text in distinct):
        _check_integers(name, distinct)
        distinct = {str(whole_number(text)) for text in distinct}
        texts = [str(whole_number(text)) for text in texts]
    class_names = ordered_class_names(distinct)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    return class_names, [label_of[text] for text in texts]


def _check_integers(name: str, labels: Iterable[str]) -> None:
    for label in sorted(labels):
        if label.startswith("-") and label.strip("-0.,"):
            raise InputError(
                f"label {label} in {name!r} is out of range: integer labels must be >= 0; remove the rows, or use "
                "names if these are not labels"
            )
        if not is_whole_number(label):
            raise InputError(f"label {label} in {name!r} is not an integer; use integers from 0, or class names")


def label_notes(class_names: Sequence[str]) -> list[str]:
    """Return notes on class names that may be misread: integers with gaps, and several names in one.

    Args:
        class_names: C names, in the order of the labels.

    Example:
        >>> label_notes(["cat", "cat;dog"])
        ["1 class names contain a separator and are one class each, not several labels: 'cat;dog'."]
    """
    notes = []
    if class_names and all(_INTEGER.fullmatch(name) for name in class_names):
        first, last = int(class_names[0]), int(class_names[-1])
        if first > 1 or last - first + 1 > len(class_names):
            notes.append(
                f"The integer labels have gaps and are used as class names: {len(class_names):,} classes from {first} "
                f"to {last}."
            )
    known = set(class_names)
    joined = [
        name
        for name in class_names
        if re.search(r"[^;|]+[;|][^;|]+", name) or any(part.strip() in known for part in name.split(",")[1:])
    ]
    if joined:
        shown = ", ".join(map(repr, joined[:5])) + (", ..." if len(joined) > 5 else "")
        notes.append(
            f"{len(joined):,} class names contain a separator and are one class each, not several labels: {shown}."
        )
    return notes


def split_files(train: Path, wanted_parts: Sequence[str] = ("val", "test")) -> dict[str, Path]:
    """Return the validation and test files next to a training file, whose names differ in the word "train" only.

    Args:
        train: Training file, such as `train.csv` or `Places_LT_train.txt`.
        wanted_parts: Splits to look for.
    """
    found = re.fullmatch(r"(|.*[^A-Za-z])(?:[Tt]rain(?:ing)?|TRAIN(?:ING)?)(|[^a-z].*)", train.stem)
    if found is None or not train.parent.is_dir():
        return {}
    wanted = {f"{found[1]}{word}{found[2]}{train.suffix}".lower(): part for word, part in SPLIT_ALIASES.items()}
    siblings = sorted(entry for entry in train.parent.iterdir() if entry.name.lower() in wanted and entry != train)
    return {part: entry for entry in siblings if (part := wanted[entry.name.lower()]) in wanted_parts}


def unused_test_file_notes(train: Path) -> list[str]:
    """Return a note on files next to the training file that may hold the test split but are not used.

    Args:
        train: Training file without a test split next to it.
    """
    if split_of_file(train) != "train" or not train.parent.is_dir():
        return []
    names = [
        entry.name
        for entry in train.parent.iterdir()
        if entry.suffix.lower() in (".csv", ".tsv", ".parquet", ".txt")
        and TEST_WORDS & set(re.split(r"[^a-z]+", entry.stem.lower()))
    ]
    if not names:
        return []
    return [f"Next to {train.name}, not used: {', '.join(sorted(names))}; set `test` if it is the test split."]


def split_of_file(file: Path) -> str:
    """Return the split whose name a file name has as a word, or "train".

    Args:
        file: Path of the file.

    Example:
        >>> split_of_file(Path("validation-00000-of-00001.parquet")), split_of_file(Path("photos.parquet"))
        ('val', 'train')
    """
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLIT_ALIASES[word] for word in words if word in SPLIT_ALIASES), "train")


def split_from_name(name: str) -> str:
    """Return the split that a folder or a table entry names: "train", "val" or "test".

    Args:
        name: One of `SPLIT_ALIASES`, in upper or lower case.

    Raises:
        InputError: If the name is unknown.

    Example:
        >>> split_from_name("Validation")
        'val'
    """
    part = SPLIT_ALIASES.get(name.strip().lower())
    if part is None:
        raise unknown_name("split", name, SPLIT_ALIASES)
    return part
