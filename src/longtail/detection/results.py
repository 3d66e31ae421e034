"""Detections: result files in the layout of COCO, and drawings.

A result file is a JSON list with one mapping per detection: `image_id`, `category_id`, `score`, and `bbox` (left, top,
width, height in pixels), `segmentation` (run lengths), or both. Other tools write and read the same layout.

Shapes: n = detections in one image, H x W = image size.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail._io import write_text
from longtail.detection.coco import finite, whole
from longtail.detection.data import DetectionDataset
from longtail.detection.files import load_json
from longtail.detection.segments import RLE, mask_library, run_lengths
from longtail.errors import InputError, naming

Record = dict[str, Any]
"""One detection of a result file."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections in one image.

    Args:
        image_id: Number of the image in its annotation file.
        boxes: Left, top, right and bottom in pixels of the file, shape (n, 4).
        scores: Confidences in [0, 1], shape (n,).
        labels: Classes, from 1, shape (n,).
        masks: Masks in run lengths, see `encode_masks`. None without masks.
    """

    image_id: int
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    masks: Sequence[RLE] | None = None


def encode_masks(masks: Tensor) -> list[RLE]:
    """Return masks in compressed run lengths, which a JSON file can hold.

    Args:
        masks: Masks of one image, bool or uint8, shape (n, H, W).

    Raises:
        InputError: If faster-coco-eval is not installed.

    Example:
        >>> mask = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> mask[0, 1:3, 1:3] = True
        >>> encode_masks(mask)
        [{'size': [4, 4], 'counts': '52203'}]
    """
    if not len(masks):
        return []
    pixels = np.asfortranarray(masks.to("cpu", torch.uint8).permute(1, 2, 0).numpy())
    return [
        {"size": list(each["size"]), "counts": each["counts"].decode("ascii")} for each in mask_library().encode(pixels)
    ]


def to_records(detections: Iterable[Detections], dataset: DetectionDataset) -> list[Record]:
    """Return detections as the entries of a result file.

    Args:
        detections: Detections, image by image.
        dataset: Data set with the classes.
    """
    return records_of(detections, dataset.category_ids)


def records_of(detections: Iterable[Detections], category_ids: Sequence[int]) -> list[Record]:
    """Return detections as the entries of a result file, without a data set.

    Args:
        detections: Detections, image by image.
        category_ids: Number of each class in the annotations, see `DetectionDataset.category_ids`.
    """
    records: list[Record] = []
    for each in detections:
        boxes = each.boxes.detach().cpu().double()
        corners = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
        scores, labels = each.scores.detach().cpu().double().tolist(), each.labels.cpu().tolist()
        for index, (box, score, label) in enumerate(zip(corners, scores, labels, strict=True)):
            record = {"image_id": each.image_id, "category_id": category_ids[label - 1], "score": score}
            record["bbox"] = box
            if each.masks is not None:
                record["segmentation"] = each.masks[index]
            records.append(record)
    return records


def write_results(path: Path, records: Sequence[Record]) -> None:
    """Write a result file atomically, one detection per line.

    Args:
        path: File to write.
        records: Detections, see `to_records`.

    Raises:
        WriteError: If the file cannot be written.
    """
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    write_text(path, f"[\n{lines}\n]\n")


def read_results(path: Path, dataset: DetectionDataset) -> list[Record]:
    """Read a result file of any tool, and check it against a data set.

    Args:
        path: JSON file with a list of detections.
        dataset: Data set with the images and classes.

    Raises:
        InputError: If an entry is not valid, naming its position, its image and the rule.
    """
    records = load_json(path)
    with naming(path):
        if not isinstance(records, list):
            raise InputError(
                "detections must be a list with image_id, category_id, score and bbox or segmentation; "
                "the annotations belong after `against`"
            )
        sizes = {image.id: (image.height, image.width) for image in dataset.images}
        categories = frozenset(dataset.category_ids)
        for position, record in enumerate(records):
            _check(record, position, sizes, categories)
        _check_masks(records, sizes)
    return records


def _check(record: Any, position: int, sizes: dict[int, tuple[int, int]], categories: frozenset[int]) -> None:
    if not isinstance(record, dict):
        raise InputError(f"detection {position} must be a mapping, got {record!r:.60}")
    image = whole(record.get("image_id"), f"`image_id` of detection {position}")
    if image not in sizes:
        raise InputError(f"detection {position} is in the image id {image}, which the annotations lack")
    where = f"detection {position} in image id {image}"
    if (category := whole(record.get("category_id"), f"`category_id` of {where}")) not in categories:
        raise InputError(f"{where} has the category id {category}, which the annotations lack")
    finite(record.get("score"), f"`score` of {where}")
    box, mask = record.get("bbox"), record.get("segmentation")
    if box is None and mask is None:
        raise InputError(f"{where} has neither `bbox` nor `segmentation`")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(f"`bbox` of {where} must be [x, y, width, height], got {box!r:.60}")
        if min(finite(each, f"`bbox` of {where}") for each in box[2:]) < 0 or not np.isfinite(box).all():
            raise InputError(f"`bbox` of {where} must be finite, with a width and height >= 0, got {box}")
    if mask is not None and not isinstance(mask, dict):
        raise InputError(f"`segmentation` of {where} must be run lengths, got {mask!r:.60}")


def _check_masks(records: Sequence[Record], sizes: dict[int, tuple[int, int]]) -> None:
    """Check that all detections have masks or none has, and that the run lengths fill the images."""
    masked = [position for position, record in enumerate(records) if record.get("segmentation") is not None]
    boxed = sum(record.get("bbox") is not None for record in records)
    if len(masked) not in (0, len(records)) or boxed not in (0, len(records)):
        raise InputError("some detections lack `bbox` or `segmentation`, which others have; all must have the same")
    for position in masked:
        record = records[position]
        try:
            run_lengths(record["segmentation"], sizes[record["image_id"]])
        except InputError as error:
            raise InputError(f"detection {position} in image id {record['image_id']}: {error}") from error


def draw(
    pixels: Tensor, detections: Detections, categories: Sequence[str], *, min_score: float = 0.5, width: int = 2
) -> Tensor:
    """Return an image with the boxes, masks, class names and scores of its detections.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        detections: Detections in the image.
        categories: Names of the C classes.
        min_score: Smallest score to draw.
        width: Width of the lines in pixels.

    Example:
        >>> found = Detections(1, torch.tensor([[2.0, 2, 20, 20]]), torch.tensor([0.9]), torch.tensor([1]))
        >>> draw(torch.zeros(3, 32, 32, dtype=torch.uint8), found, ["cat"]).amax()
        tensor(255, dtype=torch.uint8)
    """
    from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

    keep = (detections.scores >= min_score).nonzero().flatten().tolist()
    if not keep:
        return pixels
    labels = [int(label) for label in detections.labels[keep].tolist()]
    colors = [_color(label) for label in labels]
    if detections.masks is not None:
        decoded = mask_library().decode([detections.masks[index] for index in keep])
        pixels = draw_segmentation_masks(
            pixels, torch.from_numpy(decoded.transpose(2, 0, 1).astype(bool)), alpha=0.4, colors=colors
        )
    scores = detections.scores[keep].tolist()
    names = [f"{categories[label - 1]} {score:.2f}" for label, score in zip(labels, scores, strict=True)]
    drawn: Tensor = draw_bounding_boxes(pixels, detections.boxes[keep].cpu(), labels=names, colors=colors, width=width)
    return drawn


def _color(label: int) -> tuple[int, int, int]:
    """Return a bright color per class; neighboring numbers differ most."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((label * 0.618034) % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
