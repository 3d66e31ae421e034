"""Annotations in the layout of COCO and LVIS (v0.5 and v1), checked and packed.

Repairs, which are counted in `DetectionDataset.repairs` and logged: a box that reaches outside its image is clipped, a
box without area is dropped, and a polygon of fewer than three points is left out if its object has another one. Every
other defect is an `InputError` that names the image, the annotation and the rule.

COCO: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, https://arxiv.org/abs/1405.0312.
LVIS: Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", CVPR 2019,
https://arxiv.org/abs/1908.03195.

Shapes: N = images, C = classes, A = objects.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from longtail._tables import normalized
from longtail.detection.data import DetectionDataset, Group, ImageRecord, Objects, Verified
from longtail.detection.files import find_files, load_json, with_sizes
from longtail.detection.segments import NO_MASK, SegmentsBuilder
from longtail.errors import InputError, naming, near_paths

_log = logging.getLogger("longtail")
CLIPPED, NO_AREA, SHORT = (
    "boxes clipped to their image",
    "boxes without area dropped",
    "polygons of 1 or 2 points left out",
)
Box = tuple[float, float, float, float]


def read_annotations(
    annotations: str | Path, images: str | Path | None = None, *, split: str | None = None, need_images: bool = True
) -> DetectionDataset:
    """Read a data set for detection or instance segmentation.

    Args:
        annotations: JSON file in the layout of COCO or LVIS, or a folder with such a file, in the layout of Pascal VOC
            (`Annotations/*.xml`), or of YOLO (`labels/*.txt`).
        images: Folder of the images. Default: found next to the annotations.
        split: Part of a folder, such as "train" or "val". Default: everything.
        need_images: Check that the image files exist and have the annotated size. Of more than 20,000 files, the sizes
            of an evenly spaced 1,000 are checked now, and the others when they are read.

    Returns:
        Data set. Objects of a class are numbered from 1 in the targets, in the order of the file.

    Raises:
        InputError: If a file is missing or an annotation is not valid.

    Example:
        >>> read_annotations("nowhere.json")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no file or folder 'nowhere.json'; give a COCO or LVIS file, or a folder ...
    """
    path = Path(annotations).expanduser()
    if not path.exists():
        near = near_paths(path)
        raise InputError(
            f"there is no file or folder {str(path)!r}; "
            + (
                f"did you mean {' or '.join(near)}?"
                if near
                else "give a COCO or LVIS file, or a folder with annotations"
            )
        )
    folder = None if images is None else Path(images).expanduser()
    if path.is_dir():
        from longtail.detection.convert import annotations_of_folder

        source, content, folder = annotations_of_folder(path, folder, split)
    else:
        source, content = path, load_json(path)
    with naming(source):
        root = source if source.is_dir() else source.parent
        return from_mapping(content, root=root, images=folder, need_images=need_images)


def from_mapping(
    content: Any,
    *,
    root: Path = Path(),
    images: Path | None = None,
    need_images: bool = True,
    read: Callable[[int], Tensor] | None = None,
) -> DetectionDataset:
    """Make a data set of a mapping in the layout of COCO or LVIS.

    Args:
        content: Mapping with the lists `images`, `annotations` and `categories`.
        root: Folder near which the images are.
        images: Folder of the images. Default: found near `root`.
        need_images: Check the image files, see `read_annotations`.
        read: Function from the position of an image to its pixels. Then no files are needed.

    Raises:
        InputError: If an annotation is not valid.
    """
    lists = _lists_of(content)
    classes = _Classes.of(lists["categories"])
    entries = lists["images"]
    positions = _unique_ids(entries, "image")
    files = [Path(str(entry.get("file_name", entry["id"]))) for entry in entries]
    if read is None and need_images:
        files = find_files(entries, root, images)
    records = [_record(entry, file) for entry, file in zip(entries, files, strict=True)]
    records = with_sizes(records, check=read is None and need_images)
    packing = _Packing(records, positions, classes.positions)
    for position, annotation in enumerate(lists["annotations"]):
        packing.add(annotation, position)
    objects = packing.build()
    for repair, number in packing.repairs.items():
        _log.warning("%s: %d", repair, number)
    return DetectionDataset(
        records,
        classes.names,
        classes.ids,
        objects,
        groups=classes.groups,
        verified=_verified(entries, classes.positions),
        read=read,
        repairs=packing.repairs,
    )


def _lists_of(content: Any) -> dict[str, list[dict[str, Any]]]:
    names = ("images", "annotations", "categories")
    lists: dict[str, Any] = {name: content.get(name) for name in names} if isinstance(content, dict) else {}
    if not lists or not all(isinstance(entries, list) for entries in lists.values()):
        kind = "a list, as in a file of detections" if isinstance(content, list) else "other content"
        raise InputError(f"annotations must hold the lists 'images', 'annotations' and 'categories', got {kind}")
    for name, entries in lists.items():
        if not entries:
            raise InputError(
                f"the list {name!r} is empty; a data set needs at least one image, annotation and category"
            )
        for position, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise InputError(f"entry {position} of {name!r} must be a mapping, got {entry!r:.60}")
    return lists


def _unique_ids(entries: Sequence[dict[str, Any]], kind: str) -> dict[int, int]:
    """Return the position of each id."""
    positions: dict[int, int] = {}
    for position, entry in enumerate(entries):
        number = whole(entry.get("id"), f"`id` of {kind} {position} (counted from 0)")
        if number in positions:
            raise InputError(f"two entries have the {kind} id {number}; ids must be unique; renumber one of them")
        positions[number] = position
    return positions


def whole(value: Any, name: str) -> int:
    """Return a value that must be an integer.

    Args:
        value: Value from a file.
        name: Name for the message.

    Raises:
        InputError: If it is not an integer.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise InputError(f"{name} must be an integer, got {value!r:.60}")
    return value


@dataclass(frozen=True)
class _Classes:
    """Categories of a file: names, ids, positions by id, and groups if the file states them."""

    names: tuple[str, ...]
    ids: tuple[int, ...]
    positions: dict[int, int]
    groups: tuple[Group, ...] | None

    @classmethod
    def of(cls, entries: Sequence[dict[str, Any]]) -> "_Classes":
        positions = _unique_ids(entries, "category")
        names = tuple(normalized(str(entry.get("name", ""))) for entry in entries)
        for name, number in Counter(names).items():
            if number > 1 or not name:
                raise InputError(f"{number} categories have the name {name!r}; each must have a name of its own")
        groups = [entry.get("frequency") for entry in entries]
        wrong = [group for group in groups if group not in ("r", "c", "f", None)]
        if wrong:
            raise InputError(f"`frequency` of a category must be r, c or f, got {wrong[0]!r}")
        stated = None if None in groups else cast(tuple[Group, ...], tuple(groups))
        return cls(names, tuple(positions), positions, stated)


def _record(entry: dict[str, Any], file: Path) -> ImageRecord:
    sides = []
    for side in ("width", "height"):
        value = entry.get(side, 0)  # 0 is read from the file later
        sides.append(whole(value, f"`{side}` of image {file} (id {entry['id']})"))
        if sides[-1] < 0 or (side in entry and sides[-1] == 0):
            raise InputError(f"`{side}` of image {file} (id {entry['id']}) must be >= 1 pixel, got {value}")
    return ImageRecord(int(entry["id"]), file, sides[0], sides[1])


def _verified(entries: Sequence[dict[str, Any]], positions: Mapping[int, int]) -> Verified | None:
    """Return the checked classes per image of a federated data set, None if all images are annotated for all."""
    if not any("neg_category_ids" in entry for entry in entries):
        return None

    def classes(entry: dict[str, Any], name: str) -> frozenset[int]:
        unknown = [each for each in entry.get(name, ()) if each not in positions]
        if unknown:
            raise InputError(f"`{name}` of image id {entry['id']} has {unknown[0]!r}, which is no category id")
        return frozenset(positions[each] for each in entry.get(name, ()))

    return Verified(
        [classes(entry, "neg_category_ids") for entry in entries],
        [classes(entry, "not_exhaustive_category_ids") for entry in entries],
    )


class _Packing:
    """Checked annotations, collected in the order of the file and packed image by image.

    Args:
        records: Images.
        images: Position of each image by id.
        classes: Position of each class by id.
    """

    def __init__(self, records: Sequence[ImageRecord], images: Mapping[int, int], classes: Mapping[int, int]) -> None:
        self._records, self._images, self._classes = records, images, classes
        self._rows: list[tuple[int, int, bool, int, float]] = []
        self._boxes: list[Box] = []
        self._segments = SegmentsBuilder()
        self._seen: set[int] = set()
        self._maskless = ""
        self.repairs: Counter[str] = Counter()

    def add(self, annotation: dict[str, Any], position: int) -> None:
        """Check and add an annotation.

        Args:
            annotation: Entry of the file.
            position: Its position, for the message if it has no id.

        Raises:
            InputError: If it is not valid.
        """
        number = whole(annotation.get("id", position + 1), f"`id` of annotation {position} (counted from 0)")
        if number in self._seen:
            raise InputError(f"two annotations have the id {number}; ids must be unique; renumber one of them")
        self._seen.add(number)
        image = whole(annotation.get("image_id"), f"`image_id` of annotation {number}")
        if image not in self._images:
            raise InputError(
                f"annotation {number} belongs to the image id {image}, which is not in 'images'; add the image"
            )
        record = self._records[self._images[image]]
        try:
            self._add(annotation, number, record)
        except InputError as error:
            raise InputError(f"image {record.file} (id {image}), annotation {number}: {error}") from error

    def _add(self, annotation: dict[str, Any], number: int, record: ImageRecord) -> None:
        category = whole(annotation.get("category_id"), "`category_id`")
        if category not in self._classes:
            raise InputError(f"category id {category} is not in 'categories'; add it, or remove the annotation")
        box, is_clipped = _box(annotation.get("bbox"), record)
        if box[2] <= box[0] or box[3] <= box[1]:
            self.repairs[NO_AREA] += 1
            return
        self.repairs[CLIPPED] += is_clipped
        segmentation = annotation.get("segmentation")
        self.repairs[SHORT] += self._segments.add(segmentation, (record.height, record.width))
        if not segmentation and not self._maskless:
            self._maskless = f"image {record.file} (id {record.id}), annotation {number}"
        crowd = annotation.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise InputError(f"`iscrowd` must be 0 or 1, got {crowd!r}")
        own_area = (box[2] - box[0]) * (box[3] - box[1])
        area = finite(annotation["area"], "`area`") if "area" in annotation else own_area
        self._rows.append((self._images[record.id], self._classes[category], bool(crowd), number, area))
        self._boxes.append(box)

    def build(self) -> Objects:
        """Return all objects, sorted by image.

        Raises:
            InputError: If no annotation is left, or only some of the objects have masks.
        """
        self.repairs = Counter({repair: number for repair, number in self.repairs.items() if number})
        if not self._rows:
            raise InputError(
                "no annotation is left, because all boxes have no area; `bbox` must be [x, y, width, height]"
            )
        segments = self._segments.build()
        if self._maskless and (segments.kinds_A != NO_MASK).any():
            raise InputError(
                f"{self._maskless}: its `segmentation` is empty, and other objects have masks; give it a polygon of at "
                "least 3 points, or remove all masks to train on boxes"
            )
        images, labels, crowd, ids, areas = (np.array(column) for column in zip(*self._rows, strict=True))
        order = np.argsort(images, kind="stable")
        starts = np.searchsorted(images[order], np.arange(len(self._records) + 1))
        boxes = np.array(self._boxes, np.float64)
        return Objects(
            starts, boxes[order], labels[order], crowd[order], areas[order], ids[order], segments.take(order)
        )


def _box(value: Any, record: ImageRecord) -> tuple[Box, bool]:
    """Return left, top, right and bottom within the image, and whether the box was clipped."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise InputError(f"`bbox` must be [x, y, width, height], got {value!r:.60}")
    left, top, width, height = (finite(each, "`bbox`") for each in value)
    if width < 0 or height < 0:
        raise InputError(f"`bbox` must be [x, y, width, height] with a width and height >= 0, got {value}")
    right, bottom = left + width, top + height
    box = (max(0.0, left), max(0.0, top), min(right, float(record.width)), min(bottom, float(record.height)))
    return box, box != (left, top, right, bottom)


def finite(value: Any, name: str) -> float:
    """Return a value that must be a finite number.

    Args:
        value: Value from a file.
        name: Name for the message.

    Raises:
        InputError: If it is not a finite number.
    """
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise InputError(f"{name} must be a finite number, got {value!r:.60}; correct or remove the annotation")
