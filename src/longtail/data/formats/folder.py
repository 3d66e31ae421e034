"""Folders of images: one folder per class, optionally inside train, val and test folders."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from longtail.data.decode import IMAGE_SUFFIXES
from longtail.data.formats.listing import SPLIT_ALIASES, Listing, make_listing, ordered_class_names
from longtail.errors import InputError, first_ten


def read_folder(path: Path | str) -> Listing:
    """List the images of a folder with one folder per class.

    Hidden files and files without an image suffix are ignored. A class folder may have subfolders. Classes are sorted
    by name, images by path.

    Args:
        path: Folder that holds `class/image`, or `train/class/image` and optionally the same under `val` and `test`.
            The names "training", "valid", "validation" and "testing" are accepted too.

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
    found = {part: _images_by_class(root, top) for part, top in tops.items()}
    _check_no_empty_class(root, tops, found)
    class_names = ordered_class_names(class_name for classes in found.values() for class_name in classes)
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    parts = {}
    for part, classes in found.items():
        pairs = sorted((image, label_of[class_name]) for class_name, images in classes.items() for image in images)
        parts[part] = ([image for image, _ in pairs], [label for _, label in pairs])
        notes += _stray_notes(root / tops[part])
    return make_listing(str(path), root, "folder", class_names, parts, notes)


def _split_folders(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return the name of the folder with the class folders of each split, and a note on the other folders."""
    names = _folders(root)
    named = [name for name in names if name.lower() in SPLIT_ALIASES]
    # a class may be called "train" too; its folder then holds images and no folders
    if not any(SPLIT_ALIASES[name.lower()] == "train" and _folders(root / name) for name in named):
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


def _images_by_class(root: Path, top: str) -> dict[str, list[str]]:
    """Return the paths of the images of each class, relative to the root."""
    prefix = f"{top}/" if top else ""
    classes = {name: list(_images(root, f"{prefix}{name}")) for name in _folders(root / top)}
    if not classes:
        raise InputError(f"{str(root / top)!r} holds no folders; put the images into one folder per class")
    return classes


def _check_no_empty_class(root: Path, tops: Mapping[str, str], found: Mapping[str, Mapping[str, list[str]]]) -> None:
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
            f"{'them' if len(empty) > 1 else 'it'} or add images ({' '.join(sorted(IMAGE_SUFFIXES))}):\n"
            f"{first_ten(empty)}"
        )


def _images(root: Path, folder: str) -> Iterator[str]:
    for entry in _visible(root / folder):
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            # a link could lead to one of its parents, and the search would never end
            if entry.is_symlink():
                raise InputError(f"{path!r} in {str(root)!r} is a symbolic link to a folder; replace it with a copy")
            yield from _images(root, path)
        elif _is_image(entry):
            yield path


def _stray_notes(top: Path) -> list[str]:
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
