"""Folders of images: one folder per class, optionally inside train, val and test folders."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from longtail._tables import normalized
from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.formats.listing import SPLIT_ALIASES, Listing, make_listing, ordered_class_names
from longtail.data.formats.paths import leaves_root
from longtail.data.scan import (
    EVERYTHING,
    PassedOver,
    Selection,
    folder_names,
    is_image,
    visible,
    visible_noting_hidden,
    walk,
)
from longtail.errors import InputError, first_ten

TABLES = (".csv", ".tsv", ".parquet")


def read_folder(path: Path | str, selection: Selection = EVERYTHING) -> Listing:
    """List the images of a folder with one folder per class.

    `longtail.data.scan` defines what is an image and what is passed over; the notes count the latter. A class folder
    may have subfolders. Classes are sorted by name, images by path. Names are compared in the Unicode form NFC.

    Args:
        path: Folder that holds `class/image`, or `train/class/image` and optionally the same under `val` and `test`.
            The names "training", "valid", "validation" and "testing" are accepted too.
        selection: Choice of files.

    Raises:
        InputError: If the folder does not exist, it holds no class folders, a class folder has no image, or a check of
            `make_listing` fails.

    Example:
        >>> read_folder("nowhere")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no folder at 'nowhere'; give the folder that holds one folder per class
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"no folder at {str(path)!r}; give the folder that holds one folder per class")
    tops, notes = _split_folders(root)
    passed = PassedOver()
    if any(tops.values()):
        visible_noting_hidden(root, "", passed)
    tops = {part: top for part, top in tops.items() if part == "train" or part in selection.splits}
    found = {part: _images_by_class(root, top, selection, passed) for part, top in tops.items()}
    if passed.outside:
        raise leaves_root(root, passed.outside, is_folder=True)
    if not selection.allow_empty:
        _check_no_empty_class(root, tops, found, passed)
    notes += _twin_notes(found)
    class_names = ordered_class_names(normalized(class_name) for classes in found.values() for class_name in classes)
    if len(class_names) == 1:
        _check_level(root, next(iter(found["train"])))
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    parts = {}
    for part, classes in found.items():
        pairs = sorted((image, label_of[normalized(name)]) for name, images in classes.items() for image in images)
        parts[part] = ([image for image, _ in pairs], [label for _, label in pairs])
        notes += _stray_notes(root / tops[part])
    notes += passed.notes()
    return make_listing(
        str(path), root, "folder", class_names, parts, notes, selection=selection, passed_over=passed.omissions()
    )


def _split_folders(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return the name of the folder with the class folders of each split, and a note on the other folders."""
    names = folder_names(root)
    named = [name for name in names if name.lower() in SPLIT_ALIASES]
    # a class may be called "train" too; its folder then holds images and no folders
    if not any(SPLIT_ALIASES[name.lower()] == "train" and folder_names(root / name) for name in named):
        if named and named == names:
            raise InputError(
                f"{str(root)!r} has {', '.join(named)} but no train folder with one folder per class; add one, or "
                "give the folder that holds one folder per class"
            )
        return {"train": ""}, []
    tops: dict[str, str] = {}
    for name in named:
        part = SPLIT_ALIASES[name.lower()]
        if part in tops:
            raise InputError(
                f"{tops[part]} and {name} in {str(root)!r} both mean the {part} split; keep one of the two folders"
            )
        tops[part] = name
    others = [name for name in names if name not in named]
    note = f"Folders next to {tops['train']} that are not part of the data were left out: {', '.join(others)}."
    return tops, [note] if others else []


def _images_by_class(root: Path, top: str, selection: Selection, passed: PassedOver) -> dict[str, list[str]]:
    """Return the paths of the images of each class, relative to the root."""
    prefix = f"{top}/" if top else ""
    entries = visible_noting_hidden(root, top, passed)
    classes = {}
    for name in sorted(entry.name for entry in entries if entry.is_dir()):
        excluded = passed.excluded
        images = list(walk(root, f"{prefix}{name}", selection, passed))
        if images or passed.excluded == excluded:  # a class without any chosen image is left out too
            classes[name] = images
    if not classes:
        tables = sorted(entry.name for entry in entries if entry.name.lower().endswith(TABLES))
        advice = f", or give the table {str(root / top / tables[0])!r}" if tables else ""
        raise InputError(f"{str(root / top)!r} holds no folders; put the images into one folder per class{advice}")
    return classes


def _check_no_empty_class(
    root: Path, tops: Mapping[str, str], found: Mapping[str, Mapping[str, list[str]]], passed: PassedOver
) -> None:
    """Raise an error that names the class folders without an image, of all splits at once."""
    empty = [
        f"{tops[part]}/{name}".removeprefix("/")
        for part, classes in found.items()
        for name, images in classes.items()
        if not images
    ]
    if empty:
        raise InputError(
            f"{len(empty):,} class folder{'s' * (len(empty) > 1)} in {str(root)!r} without an image; remove "
            f"{'them' if len(empty) > 1 else 'it'}, add images ({' '.join(sorted(IMAGE_SUFFIXES))}), or set "
            '`empty_classes` to "keep" or "drop":\n'
            f"{first_ten(empty)}" + "".join(f"\n{note}" for note in passed.notes())
        )


def _check_level(root: Path, name: str) -> None:
    """Raise an error with advice if the only folder holds the class folders."""
    below = folder_names(root / name)
    if len(below) > 1:
        raise InputError(
            f"{str(root)!r} holds the single folder {name!r}, which holds {len(below):,} folders "
            f"({', '.join(below[:3])}{', ...' if len(below) > 3 else ''}); give {str(root / name)!r} if these are the "
            "classes"
        )


def _twin_notes(found: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Return a note on the class folders of one split whose names differ only in the Unicode form."""
    uses = [Counter(map(normalized, classes)) for classes in found.values()]
    twins = sorted({name for counter in uses for name, count in counter.items() if count > 1})
    return [f"Folders whose names differ only in the Unicode form were merged: {', '.join(twins)}."] if twins else []


def _stray_notes(top: Path) -> list[str]:
    stray = sum(entry.is_file() and is_image(entry.path) for entry in visible(top))
    return [f"{stray:,} images directly in {top.name} belong to no class folder and were left out."] if stray else []
