"""Find the image files of a data set: choose the reader for a path, add a separate test split, settle empty classes.

Shapes: N = images, C = classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtail._tables import is_whole_number, normalized
from longtail.config.schema import DataConfig
from longtail.data.formats.folder import read_folder
from longtail.data.formats.listing import (
    EMPTY_CLASS_REMEDY,
    Examples,
    Listing,
    check_class_presence,
    ordered_class_names,
)
from longtail.data.formats.lists import BENCHMARKS, read_lists
from longtail.data.formats.paths import on_disk
from longtail.data.formats.prepared import MARKER, read_prepared
from longtail.data.formats.table import TABLE_SUFFIXES, read_table, read_tables
from longtail.data.packed import tables_in
from longtail.data.scan import Selection
from longtail.data.splits import Rows, first_few
from longtail.errors import InputError, first_ten


def find_listing(config: DataConfig) -> Listing:
    """List the image files of `config.name` and `config.test` with the reader for their kind.

    Args:
        config: Settings, of which those that choose files are used.

    Raises:
        InputError: If the path is of an unknown kind, or its content is invalid.
    """
    selection = Selection(
        config.include or (),
        config.exclude or (),
        config.follow_links,
        splits=("val", "test") if config.test is None else ("val",),
        allow_empty=config.empty_classes != "fail",
    )
    listing = _read(config.name, config.root, selection, config)
    if config.test is None:
        return listing
    path = on_disk(Path(config.test).expanduser())
    if not path.exists():
        raise InputError(f"`test` must be a folder, a table or a list, and there is nothing at {config.test!r}")
    # a folder may hold several splits; a file next to a training file is taken alone
    alone = replace(selection, splits=("test",) if path.is_dir() else (), allow_empty=True)
    root = str(listing.root) if config.name in BENCHMARKS else config.root
    return with_test(listing, _read(str(path), root, alone, config), extra=config.empty_classes != "fail")


def _read(name: str, root: str | None, selection: Selection, config: DataConfig) -> Listing:
    path = Path(name).expanduser()
    columns: dict[str, Any] = {"path_column": config.path_column, "label_column": config.label_column}
    columns["group"] = config.group
    if name in BENCHMARKS:
        return read_lists(name, root, selection)
    if (path / "config.yaml").is_file() and (path / "checkpoint").is_dir():
        raise InputError(f"{name!r} is the folder of a run, not a data set; give the data that the run used")
    if path.is_dir():
        if (path / MARKER).is_file():
            return read_prepared(name, selection)
        if any(path.glob("*_train.txt")):
            return read_lists(name, root, selection)
        return read_tables(name, root, selection, **columns) if tables_in(path) else read_folder(name, selection)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(name, root, selection, **columns)
    if path.suffix.lower() == ".txt":
        return read_lists(name, root, selection)
    problem = "is not a supported kind of data" if path.exists() else "is not a file or folder"
    raise InputError(
        f"{name!r} {problem}; give a folder with one folder per class, a table "
        f"({', '.join(TABLE_SUFFIXES)}), or a list (.txt)"
    )


def with_test(listing: Listing, test: Listing, *, extra: bool = False) -> Listing:
    """Return a listing with the images of another one as its test split.

    Args:
        listing: Training images, perhaps with a validation split. Its own test split is left out.
        test: Test images. Of several splits, only "test" is used.
        extra: Accept classes that do not occur in `listing`.

    Raises:
        InputError: If a class name does not occur in `listing`, or `test` has splits, but none for testing.
    """
    if "test" not in test.parts and len(test.parts) > 1:
        raise InputError(f"`test` {test.name!r} has the splits {', '.join(test.parts)}, but no test split; add one")
    part = test.parts.get("test") or next(iter(test.parts.values()))
    used = sorted(set(part.targets.tolist()))
    label_of = {normalized(name): label for label, name in enumerate(listing.class_names)}
    names = [normalized(test.class_names[label]) for label in used]
    # the integers of a list are positions in the names that stand next to the training list
    are_positions = listing.source == test.source == "list" and all(map(is_whole_number, names))
    if are_positions and not any(name in label_of for name in names) and int(names[-1]) < len(listing.class_names):
        names = [normalized(listing.class_names[int(name)]) for name in names]
    unknown = [name for name in names if name not in label_of]
    if unknown and not extra:
        raise _unknown_classes(listing, test, unknown, len(used))
    class_names = ordered_class_names([*listing.class_names, *unknown]) if unknown else listing.class_names
    label_of = {normalized(name): label for label, name in enumerate(class_names)}
    moved = torch.tensor([label_of[normalized(name)] for name in listing.class_names])
    parts = {name: replace(each, targets=moved[each.targets]) for name, each in listing.parts.items() if name != "test"}
    to_label = torch.zeros(len(test.class_names), dtype=torch.int64)
    to_label[used] = torch.tensor([label_of[name] for name in names])
    # an absolute path stays what it is if it is joined to the root
    paths = [(test.root.absolute() / path) for path in part.paths]
    home = listing.root.absolute()
    relative = [(path.relative_to(home) if path.is_relative_to(home) else path).as_posix() for path in paths]
    parts["test"] = Examples(tuple(relative), to_label[part.targets], part.groups)
    notes = [f"The test split is {test.name!r}, with {len(part):,} images.", *test.notes]
    if "test" in listing.parts:
        count = len(listing.parts["test"])
        notes.append(f"The {count:,} test images of {listing.name} itself are not used.")
    return replace(
        listing,
        class_names=class_names,
        parts=parts,
        notes=(*listing.notes, *notes),
        passed_over=(*listing.passed_over, *test.passed_over),
    )


def _unknown_classes(listing: Listing, test: Listing, unknown: Sequence[str], total: int) -> InputError:
    return InputError(
        f"{len(unknown):,} of {total:,} classes of the test split {test.name!r} do not occur in the training data "
        f"{listing.name!r}, whose classes are {first_few(list(listing.class_names))}; use the same names in both, or "
        f'set `empty_classes` to "keep" or "drop":\n{first_ten(unknown)}'
    )


def settle_classes(
    name: str, class_names: tuple[str, ...], rows: Rows, targets_N: Tensor, policy: str
) -> tuple[tuple[str, ...], Rows, Tensor, list[str]]:
    """Apply `DataConfig.empty_classes` to the classes without a training image.

    Args:
        name: Name of the data, for messages.
        class_names: C names.
        rows: Indices of the images of each split.
        targets_N: Labels of all images.
        policy: "fail", "keep" or "drop".

    Returns:
        Class names, rows, labels, and a sentence about each change.

    Raises:
        InputError: If there are empty classes and the policy is "fail", or fewer than two classes are left.
    """
    filled_C = torch.bincount(targets_N[rows["train"]], minlength=len(class_names)) > 0
    empty = [class_name for class_name, filled in zip(class_names, filled_C.tolist(), strict=True) if not filled]
    if policy == "fail":
        by_part = {part: targets_N[index] for part, index in rows.items()}
        check_class_presence(name, class_names, by_part, EMPTY_CLASS_REMEDY)
    if int(filled_C.sum()) < 2:
        raise InputError(
            f"{name!r} has {int(filled_C.sum())} of {len(class_names):,} classes with a training image; a classifier "
            "needs at least two"
        )
    if not empty:
        return class_names, rows, targets_N, []
    about = f"{len(empty):,} of {len(class_names):,} classes have no training image"
    if policy == "keep":
        return class_names, rows, targets_N, [f"{about} and keep their outputs of the model: {first_few(empty)}."]
    kept = {part: index[filled_C[targets_N[index]]] for part, index in rows.items()}
    lost = {part: len(index) - len(kept[part]) for part, index in rows.items() if len(index) > len(kept[part])}
    for part in lost:
        if not len(kept[part]):
            raise InputError(f"all images of the {part} split of {name!r} belong to classes without a training image")
    with_images = f", with {' and '.join(f'{count:,} {part} images' for part, count in lost.items())}" if lost else ""
    names = tuple(name for name, filled in zip(class_names, filled_C.tolist(), strict=True) if filled)
    # images of dropped classes are in no split, so their label is not used
    relabeled = (filled_C.cumsum(0) - 1).clamp(min=0)[targets_N]
    return names, kept, relabeled, [f"{about} and were removed{with_images}: {first_few(empty)}."]
