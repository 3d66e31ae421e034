"""A folder per class, with or without folders train, val and test above them."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.listing import PART_OF, Listing, make_listing, ordered_class_names
from longtail.errors import InputError, first_ten


def read_folder(path: Path | str) -> Listing:
    """List the images of a tree with a folder per class.

    Hidden files and files that are no images (by their suffix) are ignored; images may lie in folders within a class
    folder. Classes are in the order of their names; images in that of their paths.

    Args:
        path: of the tree: `PATH/class/image`, or `PATH/train/class/image` with `PATH/val` and `PATH/test` beside it
            ("training", "valid", "validation" and "testing" are understood).

    Raises:
        InputError: if there is no such folder, it holds no class folders, a class folder has no image, or a check of
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
    tops, notes = _part_folders(root)
    found = {part: _images_by_class(root, top) for part, top in tops.items()}
    _refuse_empty(root, tops, found)
    class_names = ordered_class_names(class_name for classes in found.values() for class_name in classes)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    parts = {}
    for part, classes in found.items():
        pairs = sorted((image, label_of[class_name]) for class_name, images in classes.items() for image in images)
        parts[part] = ([image for image, _ in pairs], [label for _, label in pairs])
        notes += _stray(root / tops[part])
    return make_listing(str(path), root, "folder", class_names, parts, notes)


def _part_folders(root: Path) -> tuple[dict[str, str], list[str]]:
    """The name of the folder that holds the class folders of each part, and a note on folders that are no part."""
    names = _folders(root)
    named = [name for name in names if name.lower() in PART_OF]
    # a class may be called "train" too: its folder holds images, not folders
    if not any(PART_OF[name.lower()] == "train" and _folders(root / name) for name in named):
        if named and named == names:
            raise InputError(
                f"{str(root)!r} has {', '.join(named)} but no train folder that holds a folder per class; add one, or "
                "give the folder that holds one folder per class"
            )
        return {"train": ""}, []
    tops: dict[str, str] = {}
    for name in named:
        part = PART_OF[name.lower()]
        if part in tops:
            raise InputError(
                f"{tops[part]} and {name} in {str(root)!r} both mean the {part} part; keep one of the two folders"
            )
        tops[part] = name
    others = [name for name in names if name not in named]
    note = f"Folders beside {tops['train']} that are no part of the data were left out: {', '.join(others)}."
    return tops, [note] if others else []


def _images_by_class(root: Path, top: str) -> dict[str, list[str]]:
    """Paths from the root, by class."""
    prefix = f"{top}/" if top else ""
    classes = {name: list(_images(root, f"{prefix}{name}")) for name in _folders(root / top)}
    if not classes:
        raise InputError(f"{str(root / top)!r} holds no folders; put the images into one folder per class")
    return classes


def _refuse_empty(root: Path, tops: Mapping[str, str], found: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Name the class folders without an image, those of all parts at once."""
    empty = [
        f"{tops[part]}/{name}".removeprefix("/")
        for part, classes in found.items()
        for name, images in classes.items()
        if not images
    ]
    if empty:
        raise InputError(
            f"{len(empty):,} class folder{'s' * (len(empty) > 1)} in {str(root)!r} without an image; remove "
            f"{'them' if len(empty) > 1 else 'it'} or add images ({' '.join(sorted(IMAGE_SUFFIXES))}):\n"
            f"{first_ten(empty)}"
        )


def _images(root: Path, folder: str) -> Iterator[str]:
    for entry in _visible(root / folder):
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            # followed, a link could lead round in a circle
            if entry.is_symlink():
                raise InputError(f"{path!r} in {str(root)!r} is a symbolic link to a folder; copy the folder there")
            yield from _images(root, path)
        elif _is_image(entry):
            yield path


def _stray(top: Path) -> list[str]:
    stray = sum(_is_image(entry) and entry.is_file() for entry in _visible(top))
    return [f"{stray:,} images directly in {top.name} belong to no class folder and were left out."] if stray else []


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _visible(folder) if entry.is_dir())


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(f"cannot read the folder {str(folder)!r}: {error.strerror}") from error
