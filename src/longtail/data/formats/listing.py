"""Image files with their classes and splits, as read from a folder, a table or a list, and checked.

Shapes: N = images, C = classes.
"""

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail.errors import InputError, first_ten, unknown_name

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

_INTEGER = re.compile(r"0|[1-9][0-9]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


@dataclass(frozen=True, eq=False)
class Examples:
    """Image files with their labels.

    Args:
        paths: N paths relative to the root, with "/" between folders.
        targets: Labels, int64, shape (N,).
    """

    paths: tuple[str, ...]
    targets: Tensor

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
    """Check labels and paths, and then that the files exist.

    Args:
        name: Name or path given by the user.
        root: Folder to which the paths are relative.
        source: Kind of data.
        class_names: C names, in the order of the labels.
        parts: Paths and labels of each split.
        notes: Sentences for the reader of a result.

    Raises:
        InputError: If there is no image, there are fewer than two classes, a label is out of range, a class has no
            training image, or a file is missing or outside the root.
    """
    if not any(len(paths) for paths, _ in parts.values()):
        raise InputError(f"there is no image in {name!r}; give one folder per class, a table or a list of images")
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
            f"label {label} of {path!r} is out of range: {name!r} has {num_classes:,} classes, so labels must be 0 to "
            f"{num_classes - 1:,}"
        )


def check_class_presence(name: str, class_names: Sequence[str], targets: Mapping[str, Tensor]) -> None:
    """Check that every class has a training image.

    Args:
        name: Name of the data, for messages.
        class_names: C names.
        targets: Labels of each split, shape (N,).

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
                f"never in training; add training images or remove these classes:\n{_named(class_names, only_here_C)}"
            )
    if bool(untrained_C.any()):
        raise InputError(
            f"{int(untrained_C.sum()):,} of {num_classes:,} classes of {name!r} have no training image; add some or "
            f"remove these classes:\n{_named(class_names, untrained_C)}"
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

    Integers are labels, counted from 0 (or all from 1), and name their classes. Other texts are class names.

    Args:
        name: Name of the data, for messages.
        labels: Label of each row, none of them empty.

    Returns:
        C class names, and N labels in [0, C).

    Raises:
        InputError: If the labels are numbers that are fractional, negative or have gaps.

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
    value_of = {label: _to_integer(name, label) for label in distinct}
    lowest, highest = min(value_of.values()), max(value_of.values())
    first = 1 if lowest == 1 else 0
    if lowest < 0 or highest - first >= len(labels):
        raise InputError(
            f"label {lowest if lowest < 0 else highest} in {name!r} is out of range: integer labels must be 0 to the "
            "number of classes minus one, each with training images; use names if these are not labels"
        )
    absent = sorted(set(range(first, highest + 1)) - set(value_of.values()))
    if absent:
        raise InputError(
            f"{len(absent):,} of {highest + 1 - first:,} classes of {name!r} have no training image: integer labels "
            f"must have no gaps; use names if these are not labels, such as 'c{highest}':\n{first_ten(absent)}"
        )
    return tuple(map(str, range(first, highest + 1))), [value_of[label] - first for label in labels]


def _to_integer(name: str, label: str) -> int:
    whole, _, fraction = label.partition(".")
    if fraction.strip("0"):
        raise InputError(f"label {label} in {name!r} is not an integer; use integers from 0, or class names")
    return int(whole)


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


def relative_paths(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Normalize paths to one spelling, relative to the root and with "/" between folders.

    Args:
        root: Folder of the data.
        paths: Paths relative to the root, or absolute paths. On Windows, backslashes may separate folders.

    Raises:
        InputError: If a path is empty or leads out of the root.

    Example:
        >>> relative_paths(Path("photos"), ["./cat//1.png", "dog/2.png"])
        ('cat/1.png', 'dog/2.png')
    """
    homes = [f"{_with_slashes(absolute)}/" for absolute in (os.path.abspath(root), os.path.realpath(root))]
    given = list(paths)
    clean = [_strip_home(posixpath.normpath(_with_slashes(path)), homes) for path in given]
    outside = [
        old
        for old, new in zip(given, clean, strict=True)
        if new.startswith(("/", "../")) or new in ("..", ".") or os.path.splitdrive(new)[0]
    ]
    if outside:
        raise _leaves_root(root, outside)
    return tuple(clean)


def _with_slashes(path: str) -> str:
    return path if os.sep == "/" else path.replace(os.sep, "/")


def _strip_home(path: str, homes: Sequence[str]) -> str:
    for home in homes:
        if os.path.normcase(path).startswith(os.path.normcase(home)):
            return path[len(home) :]
    return path


def check_files(root: Path, paths: Sequence[str]) -> None:
    """Check that every file exists and that no symbolic link leads out of the root.

    Each folder is read once, which takes seconds for half a million images; a check per file would take minutes.

    Args:
        root: Folder of the data.
        paths: Paths as returned by `relative_paths`.

    Raises:
        InputError: If files are missing or outside the root. The message has their number and the first ten.
    """
    if not root.is_dir():
        raise InputError(f"no folder at {str(root)!r}, where the images should be; set `root` to the right folder")
    names_by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        names_by_folder[folder].append(name)
    home = os.path.realpath(root)
    missing: list[str] = []
    outside: list[str] = []
    for folder, names in names_by_folder.items():
        is_link = _links_by_file(root / folder)
        leaves = bool(is_link) and not _is_within(home, os.path.realpath(root / folder))
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name not in is_link:
                missing.append(path)
            elif leaves or (is_link[name] and not _is_within(home, os.path.realpath(root / path))):
                outside.append(path)
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(paths):,} image files are missing in {str(root)!r}; add them, or set `root` to "
            f"the folder to which the paths are relative:\n{first_ten(missing)}"
        )
    if outside:
        raise _leaves_root(root, outside)


def _links_by_file(folder: Path) -> dict[str, bool]:
    """Return whether each file of a folder is a symbolic link, by name. Empty if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return {}


def _is_within(home: str, path: str) -> bool:
    return path == home or path.startswith(home.rstrip(os.sep) + os.sep)


def _leaves_root(root: Path, paths: list[str]) -> InputError:
    return InputError(
        f"{len(paths):,} path{'s lead' if len(paths) > 1 else ' leads'} out of the data root {str(root)!r}; copy the "
        f"files into it, or set `root` to a folder that holds them all:\n{first_ten(paths)}"
    )
