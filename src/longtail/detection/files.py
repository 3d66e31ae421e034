"""Image files of annotations: where they are, and whether they have the annotated size."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from longtail._tables import read_text
from longtail.data.decode import BadImage, image_shape
from longtail.detection.data import ImageRecord, check_size
from longtail.errors import InputError, first_ten

CHECK_ALL, CHECKED = 20_000, 1_000
"""Number of files up to which the sizes of all are checked, and number of files that are checked of more."""
_THREADS = 8


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Args:
        path: Path of the file.

    Raises:
        InputError: If it cannot be read, naming the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}; it may be cut off"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path} is not valid JSON: it is nested too deeply") from error


def find_files(entries: Sequence[dict[str, Any]], root: Path, images: Path | None) -> list[Path]:
    """Return the file of each image.

    Args:
        entries: Images of an annotation file, with `file_name` (COCO) or `coco_url` (LVIS v1).
        root: Folder of the annotation file.
        images: Folder of the images. Default: the folder near `root` that holds the first image.

    Raises:
        InputError: If a file does not exist.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {str(images)!r}; give the folder of the images")
    folders = [images] if images is not None else list(_folders(root))
    names = [list(_names(entry)) for entry in entries]
    folder = next((each for each in folders if any((each / name).is_file() for name in _some(names))), None)
    if folder is None:
        looked = ", ".join(str(each) for each in folders[:4])
        raise InputError(f"there is no image {names[0][0]} in {looked}; give the folder of the images")
    files = [next((folder / name for name in own if (folder / name).is_file()), None) for own in names]
    missing = [
        f"{folder / own[0]} (id {entry['id']})"
        for entry, own, file in zip(entries, names, files, strict=True)
        if not file
    ]
    if missing:
        raise InputError(
            f"{len(missing):,} images of the annotations do not exist; add the files, or remove their entries:\n"
            f"{first_ten(missing)}"
        )
    return [file for file in files if file is not None]


def _some(names: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the names of up to 100 images, by which a folder is recognized even if single files are missing."""
    for own in names[:: max(1, len(names) // 100)]:
        yield from own


def _names(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the possible names of an image within the folder of the images."""
    name, url = entry.get("file_name"), entry.get("coco_url")
    if not isinstance(name, str) and not isinstance(url, str):
        raise InputError(f"image id {entry['id']} has neither `file_name` nor `coco_url`; add the name of its file")
    if isinstance(name, str):
        yield name
        yield PurePosixPath(name).name
        if name.startswith("COCO_"):  # LVIS v0.5 has the names of COCO 2014; the files of 2017 have only the number
            yield name.rsplit("_", 1)[-1]
    if isinstance(url, str):
        parts = PurePosixPath(url).parts
        yield from ("/".join(parts[-2:]), parts[-1])


def _folders(root: Path) -> Iterator[Path]:
    """Yield the usual places of images near an annotation file."""
    for folder in (root, root.parent):
        yield from (folder, folder / "images", folder / "JPEGImages")
        if folder.is_dir():
            yield from sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())


def with_sizes(records: Sequence[ImageRecord], check: bool) -> list[ImageRecord]:
    """Return images with the sizes that their annotations lack, and check the sizes of the others.

    Args:
        records: Images. A width or height of 0 is read from the file.
        check: Whether the files exist and are to be checked.

    Raises:
        BadImage: If a file cannot be read.
        InputError: If the size of a file differs from its annotation, or is unknown.
    """
    unknown = [position for position, each in enumerate(records) if not each.width or not each.height]
    if unknown and not check:
        raise InputError(f"image id {records[unknown[0]].id} has no `width` and `height`; add its size in pixels")
    if not check:
        return list(records)
    step = 1 if len(records) <= CHECK_ALL else len(records) // CHECKED
    positions = sorted({*unknown, *range(0, len(records), step)})
    found = list(records)
    with ThreadPoolExecutor(_THREADS) as pool:
        shapes = pool.map(_shape_or_error, [records[position].file for position in positions])
        for position, shape in zip(positions, shapes, strict=True):
            if isinstance(shape, BadImage):
                raise shape
            height, width = shape
            if not records[position].width or not records[position].height:
                found[position] = records[position]._replace(width=width, height=height)
            check_size(found[position], width, height)
    return found


def _shape_or_error(path: Path) -> tuple[int, int] | BadImage:
    try:
        return image_shape(path)
    except BadImage as error:
        return error
