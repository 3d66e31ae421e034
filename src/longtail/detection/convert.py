"""Folders of annotations as mappings in the layout of COCO: COCO files, Pascal VOC and YOLO.

- COCO or LVIS: one JSON file in the folder, in `annotations/` or next to the images of a split.
- Pascal VOC: `Annotations/*.xml`, images in `JPEGImages/`, splits in `ImageSets/Main/*.txt`. The pixels of VOC count
  from 1, and a box includes its last pixel. Objects marked as difficult or truncated are ordinary objects.
- YOLO: `labels/*.txt` and `images/`, each perhaps with a folder per split, and the class names in a YAML file with
  `names` or in `classes.txt`. A line is a class number with a box (center, width, height) or with a polygon, in shares
  of the image. An image without a label file has no objects.
"""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from longtail._tables import normalized, read_text
from longtail.data.decode import IMAGE_SUFFIXES, image_shape
from longtail.detection.files import load_json
from longtail.errors import InputError, first_ten

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
_BOX_NUMBERS = 5
_TOO_LARGE = 2.0


def annotations_of_folder(folder: Path, images: Path | None, split: str | None) -> tuple[Path, Any, Path | None]:
    """Return the annotations of a folder in the layout of COCO.

    Args:
        folder: Folder in one of the layouts at the top of this module.
        images: Folder of the images. Default: found by the layout.
        split: Part of the data, such as "train". Default: everything.

    Returns:
        Path for messages, mapping with the lists of COCO, and folder of the images (None to search).

    Raises:
        InputError: If the folder has none of the layouts, or a file is not valid.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder {str(images)!r}; give the folder of the images")
    if files := _json_files(folder, split):
        if len(files) > 1:
            raise InputError(f"{folder} has several annotation files; give one of them or a split:\n{first_ten(files)}")
        return files[0], load_json(files[0]), images
    if xml := _files(folder / "Annotations", ".xml") or _files(folder, ".xml"):
        found = images or _first_folder(folder / "JPEGImages", folder / "images", xml[0].parent)
        return folder, voc_mapping(xml, found, _voc_split(folder, split)), found
    labels = _first_folder(*_of_split(folder, "labels", split))
    if _files(labels, ".txt"):
        found = images or _first_folder(*_of_split(folder, "images", split))
        return folder, yolo_mapping(labels, found, _yolo_names(folder)), found
    where = f" for the split {split!r}" if split else ""
    raise InputError(
        f"{folder} has no annotations{where}: no JSON file, no Annotations/*.xml (Pascal VOC) and no labels/*.txt "
        "(YOLO); give the annotation file or its folder"
    )


def _files(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == suffix) if folder.is_dir() else []


def _first_folder(*folders: Path) -> Path:
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _of_split(folder: Path, kind: str, split: str | None) -> list[Path]:
    """Return the places of YOLO: labels/train, train/labels, and labels."""
    return [folder / kind / split, folder / split / kind] if split else [folder / kind]


def _json_files(folder: Path, split: str | None) -> list[Path]:
    places = [folder, folder / "annotations", *([folder / split] if split else [])]
    files = [path for place in places for path in _files(place, ".json") if not path.name.startswith(_OTHER_TASKS)]
    if split is None:
        return files
    own = re.compile(rf"(?:^|[^a-z]){re.escape(split.lower())}(?:$|[^a-z])")
    return [path for path in files if own.search(path.relative_to(folder).as_posix().lower())]


def voc_mapping(files: Sequence[Path], images: Path, stems: frozenset[str] | None = None) -> dict[str, Any]:
    """Return the content of XML files of Pascal VOC in the layout of COCO.

    Args:
        files: One XML file per image.
        images: Folder of the images.
        stems: Names, without suffix, of the files to return. All files count for the list of classes. None returns all.

    Raises:
        InputError: If a file is not valid.
    """
    by_stem = {path.stem: path.name for path in _images(images)}
    roots = {path: _xml(path) for path in files}
    names = sorted({_text(path, each, "name") for path, root in roots.items() for each in root.iter("object")})
    ids = {name: position for position, name in enumerate(names, start=1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path, root in roots.items():
        if stems is not None and path.stem not in stems:
            continue
        entries.append({"id": len(entries) + 1, "file_name": _voc_image(root, path, by_stem), **_voc_size(root)})
        for each in root.iter("object"):
            box = _voc_box(path, each)
            own = {"id": len(annotations) + 1, "image_id": len(entries), "category_id": ids[_text(path, each, "name")]}
            annotations.append({**own, "bbox": box})
    return _mapping(entries, annotations, names)


def _mapping(images: list[dict[str, Any]], annotations: list[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    categories = [{"id": position, "name": name} for position, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _images(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {str(folder)!r}; give the folder of the images")
    yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two for an unknown encoding
        raise InputError(f"{path} is not valid XML: {error}; it may be cut off") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _text(path: Path, element: ElementTree.Element, name: str) -> str:
    found = normalized(element.findtext(name) or "")
    if not found:
        raise InputError(f"{path}: an object has no `{name}`; add it")
    return found


def _voc_image(root: ElementTree.Element, path: Path, by_stem: dict[str, str]) -> str:
    """Return the image of an XML file: the one with the same name, or else the stated one."""
    return by_stem.get(path.stem) or (root.findtext("filename") or path.stem).strip()


def _voc_size(root: ElementTree.Element) -> dict[str, int]:
    """Return the stated size. Some tools write zeros, which count as not stated."""
    sides = {side: (root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")}
    return {side: int(text) for side, text in sides.items() if text.isdecimal() and int(text) > 0}


def _voc_box(path: Path, element: ElementTree.Element) -> list[float]:
    numbers = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        text = _text(path, element, f"bndbox/{side}")
        numbers.append(_number(text, f"{path}: `{side}` of {_text(path, element, 'name')!r}"))
    left, top, right, bottom = numbers
    left, top = max(0.0, left - 1), max(0.0, top - 1)
    if right < left or bottom < top:
        raise InputError(f"{path}: the box {numbers} must have xmin <= xmax and ymin <= ymax; correct it")
    return [left, top, right - left, bottom - top]


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{name} must be a finite number, got {text!r:.60}; correct or remove the object")
    return value


def _voc_split(folder: Path, split: str | None) -> frozenset[str] | None:
    if split is None:
        return None
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        there = [each.stem for each in _files(path.parent, ".txt")]
        raise InputError(f"there is no split {split!r}: no file {path}; there are: {', '.join(there[:10]) or 'none'}")
    return frozenset(line.split()[0] for line in read_text(path).splitlines() if line.strip())


def yolo_mapping(labels: Path, images: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return label files of YOLO in the layout of COCO.

    Args:
        labels: Folder of the label files.
        images: Folder of the images, whose sizes are read.
        names: Class names. Empty: the classes are named by their numbers.

    Raises:
        InputError: If a file is not valid, or a label file has no image.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    left = {path.stem: path for path in _files(labels, ".txt") if path.name != "classes.txt"}
    for image in _images(images):
        height, width = image_shape(image)
        entries.append({"id": len(entries) + 1, "file_name": image.name, "width": width, "height": height})
        if (path := left.pop(image.stem, None)) is None:
            continue
        for line, text in enumerate(read_text(path).splitlines(), start=1):
            if text.strip():
                own = _yolo_object(text.split(), f"{path}, line {line}", width, height)
                annotations.append({"id": len(annotations) + 1, "image_id": len(entries), **own})
    if left:
        raise InputError(f"label files without an image in {images}:\n{first_ten(left.values())}")
    highest = max((each["category_id"] for each in annotations), default=0)
    names = names or [str(number) for number in range(highest)]
    if highest > len(names):
        raise InputError(f"{labels} has the class number {highest - 1}, and there are {len(names)} names; add the name")
    return _mapping(entries, annotations, names)


def _yolo_object(words: Sequence[str], where: str, width: int, height: int) -> dict[str, Any]:
    if not words[0].isdecimal():
        raise InputError(f"{where}: the class must be an integer >= 0, got {words[0]!r}")
    values = [_number(word, f"{where}: a coordinate") for word in words[1:]]
    if len(words) != _BOX_NUMBERS and (len(values) < 6 or len(values) % 2):
        raise InputError(f"{where}: a line must hold a class and 4 numbers or 3 points, got {len(words)} values")
    if max(map(abs, values)) > _TOO_LARGE:
        raise InputError(f"{where}: coordinates must be shares of the image, in [0, 1], got {max(values):g}")
    sides = [width, height]
    found: dict[str, Any] = {"category_id": int(words[0]) + 1}
    if len(words) == _BOX_NUMBERS:
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        return {**found, "bbox": [x - w / 2, y - h / 2, w, h]}
    points = [value * sides[position % 2] for position, value in enumerate(values)]
    xs, ys = points[::2], points[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {**found, "bbox": box, "segmentation": [points]}


def _yolo_names(folder: Path) -> list[str]:
    """Return the class names of a YAML file with `names`, of `classes.txt` or of `obj.names`, if there is one."""
    import yaml

    for path in [*_files(folder, ".yaml"), *_files(folder, ".yml")]:
        try:
            names = (yaml.safe_load(read_text(path)) or {}).get("names")
        except (yaml.YAMLError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is not valid YAML with the class names under `names`: {error}") from error
        if isinstance(names, dict):
            names = [names[number] for number in sorted(names)]
        if names:
            return [str(name) for name in names]
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        if (folder / name).is_file():
            return [line.strip() for line in read_text(folder / name).splitlines() if line.strip()]
    return []
