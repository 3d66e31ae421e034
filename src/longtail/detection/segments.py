"""Masks of objects as polygons or run lengths, packed into a few arrays.

A data set of a million objects is then a few blocks of memory, which worker processes share. The rasterization is that
of the COCO API, from the optional package `faster-coco-eval` (the extra `detection`).

Shapes: A = objects, P = polygons or lists of run lengths, V = all of their numbers, H x W = image size.
"""

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from longtail._imports import import_optional
from longtail.errors import InputError

NO_MASK, POLYGONS, RUNS = 0, 1, 2
RLE = dict[str, Any]
"""Mask as COCO writes it: `size` (height, width) and `counts` (compressed run lengths, bytes or text)."""
_MIN_COORDINATES = 6


def mask_library() -> ModuleType:
    """Return the module of `faster-coco-eval` that encodes and decodes masks.

    Raises:
        InputError: If the package is not installed.
    """
    return import_optional(
        "faster_coco_eval.core.mask",
        'object detection needs the package faster-coco-eval: pip install "longtail[detection]"',
    )


@dataclass(frozen=True, eq=False)
class Segments:
    """Masks of A objects.

    Args:
        kinds_A: `NO_MASK`, `POLYGONS` or `RUNS` of each object, uint8.
        parts_A: First part of each object, and the number of parts at the end, int64, shape (A + 1,).
        starts_P: First number of each part, and the number of numbers at the end, int64, shape (P + 1,).
        values_V: Coordinates x, y of the polygons in pixels, or run lengths down the columns, float64.
    """

    kinds_A: np.ndarray[Any, Any]
    parts_A: np.ndarray[Any, Any]
    starts_P: np.ndarray[Any, Any]
    values_V: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.kinds_A)

    def take(self, order_A: np.ndarray[Any, Any]) -> "Segments":
        """Return the masks of objects in another order.

        Args:
            order_A: Positions of the objects, int64.
        """
        parts_A = np.diff(self.parts_A)[order_A]
        chosen_P = _ranges(self.parts_A[:-1][order_A], parts_A)
        lengths_P = np.diff(self.starts_P)[chosen_P]
        values_V = self.values_V[_ranges(self.starts_P[:-1][chosen_P], lengths_P)]
        return Segments(self.kinds_A[order_A], _starts(parts_A), _starts(lengths_P), values_V)

    def _parts(self, index: int) -> list[np.ndarray[Any, Any]]:
        first, last = self.parts_A[index], self.parts_A[index + 1]
        starts = self.starts_P[first : last + 1]
        return [self.values_V[start:end] for start, end in itertools.pairwise(starts)]

    def rle(self, index: int, size: tuple[int, int], onto: tuple[int, int] | None = None, flip: bool = False) -> RLE:
        """Return the mask of an object in compressed run lengths.

        Args:
            index: Position of the object.
            size: Height and width of its image.
            onto: Height and width of the resized image. Default: `size`.
            flip: Mirror the mask, left to right.

        Raises:
            InputError: If faster-coco-eval is not installed, or the object has no mask.
        """
        height, width = onto or size
        library = mask_library()
        if self.kinds_A[index] == NO_MASK:
            raise InputError(f"object {index} has no mask; check `has_masks` of the data set first")
        if self.kinds_A[index] == RUNS:
            runs = {"size": list(size), "counts": self._parts(index)[0].astype(np.int64).tolist()}
            encoded: RLE = library.frPyObjects(runs, *size)
            if (height, width) == size and not flip:
                return encoded
            mask_HW = _resized(library.decode(encoded), height, width)
            return library.encode(np.asfortranarray(mask_HW[:, ::-1] if flip else mask_HW))  # type: ignore[no-any-return]
        scale = np.array([width / size[1], height / size[0]])
        polygons = [part.reshape(-1, 2) * scale for part in self._parts(index)]
        if flip:
            polygons = [np.stack([width - points[:, 0], points[:, 1]], 1) for points in polygons]
        return library.merge(library.frPyObjects([each.ravel().tolist() for each in polygons], height, width))  # type: ignore[no-any-return]

    def masks(
        self,
        indices: Sequence[int] | np.ndarray[Any, Any],
        size: tuple[int, int],
        onto: tuple[int, int] | None = None,
        flip: bool = False,
    ) -> np.ndarray[Any, Any]:
        """Return the masks of n objects of one image, uint8 of 0 and 1, shape (n, H, W). The arguments are as in `rle`.

        Args:
            indices: Positions of the objects.
            size: Height and width of their image.
            onto: Height and width of the resized image. Default: `size`.
            flip: Mirror the masks, left to right.
        """
        if not len(indices):
            return np.zeros((0, *(onto or size)), np.uint8)
        decoded: np.ndarray[Any, Any] = mask_library().decode([self.rle(each, size, onto, flip) for each in indices])
        return np.ascontiguousarray(decoded.transpose(2, 0, 1))


def _starts(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.concatenate([[0], np.cumsum(lengths)])


def _ranges(starts: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the concatenation of the ranges that have these starts and lengths."""
    ends = np.cumsum(lengths)
    ranges: np.ndarray[Any, Any] = np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)
    return ranges


def _resized(mask_HW: np.ndarray[Any, Any], height: int, width: int) -> np.ndarray[Any, Any]:
    """Resize a mask: each new pixel takes the value at its center."""
    rows = ((np.arange(height) + 0.5) * mask_HW.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask_HW.shape[1] / width).astype(np.int64)
    resized: np.ndarray[Any, Any] = mask_HW[rows[:, None], columns]
    return resized


class SegmentsBuilder:
    """Collector of the masks of one object after the other.

    Example:
        >>> builder = SegmentsBuilder()
        >>> builder.add([[0, 0, 4, 0, 4, 4]], (8, 8))
        0
        >>> len(builder.build())
        1
    """

    def __init__(self) -> None:
        self._kinds, self._parts = array("b"), array("q", [0])
        self._starts, self._values = array("q", [0]), array("d")

    def add(self, segmentation: Any, size: tuple[int, int]) -> int:
        """Add the mask of an object in one of the forms of COCO.

        Args:
            segmentation: List of polygons, run lengths (a mapping), or nothing.
            size: Height and width of the image.

        Returns:
            Number of polygons that were left out because they have fewer than three points.

        Raises:
            InputError: If the mask is not valid. The message does not name the object.
        """
        parts: Sequence[Sequence[float]] = ()
        kind, short = NO_MASK, 0
        if isinstance(segmentation, dict):
            parts, kind = [run_lengths(segmentation, size)], RUNS
        elif isinstance(segmentation, list) and segmentation:
            parts, kind = _polygons(segmentation), POLYGONS
            short = len(segmentation) - len(parts)
        elif segmentation not in (None, []):
            raise InputError(f"`segmentation` must be a list of polygons or run lengths, got {segmentation!r:.60}")
        for part in parts:
            self._values.extend(part)
            self._starts.append(len(self._values))
        self._kinds.append(kind)
        self._parts.append(len(self._starts) - 1)
        return short

    def build(self) -> Segments:
        """Return the masks in the order in which they were added."""
        return Segments(
            np.array(self._kinds, np.uint8),
            np.array(self._parts, np.int64),
            np.array(self._starts, np.int64),
            np.array(self._values, np.float64),
        )


def _polygons(segmentation: list[Any]) -> list[list[float]]:
    if not isinstance(segmentation[0], list):
        raise InputError("`segmentation` must be a list of polygons, got a list of numbers; put it into a list")
    for position, polygon in enumerate(segmentation):
        if not isinstance(polygon, list) or not all(type(each) in (int, float) for each in polygon):
            raise InputError(f"polygon {position} must be a list of numbers x1, y1, x2, y2, ..., got {polygon!r:.60}")
        if not np.isfinite(polygon).all():
            raise InputError(f"polygon {position} has a coordinate that is not finite; remove or correct the polygon")
        if len(polygon) % 2:
            raise InputError(f"polygon {position} has {len(polygon)} coordinates; x and y must come in pairs")
    usable = [polygon for polygon in segmentation if len(polygon) >= _MIN_COORDINATES]
    if not usable:
        points = max(len(polygon) for polygon in segmentation) // 2
        raise InputError(f"its polygon has {points} points; a polygon must have at least 3; remove or correct it")
    return usable


def run_lengths(rle: RLE, size: tuple[int, int]) -> list[int]:
    """Return the run lengths of a mask, decompressed and checked.

    Args:
        rle: Mapping with `size` and `counts` (a list, or compressed text).
        size: Height and width of the image.

    Raises:
        InputError: If the mask is damaged, or of another size than the image.

    Example:
        >>> run_lengths({"size": [3, 3], "counts": "234"}, (3, 3))
        [2, 3, 4]
    """
    stated, counts = rle.get("size"), rle.get("counts")
    if not isinstance(stated, list | tuple) or tuple(stated) != tuple(size):
        raise InputError(
            f"its run-length mask has the size {stated}; it must be [height, width] = {list(size)} as its image"
        )
    runs = _decompressed(counts) if isinstance(counts, str | bytes) else counts
    if not isinstance(runs, list) or not all(type(each) is int and each >= 0 for each in runs):
        raise InputError(
            "its run-length mask is damaged: `counts` must be integers >= 0 or compressed text; export it again"
        )
    if sum(runs) != size[0] * size[1]:
        raise InputError(
            f"its run-length mask is damaged: the runs cover {sum(runs):,} pixels, and its image has "
            f"{size[0] * size[1]:,}; export it again"
        )
    return runs


def _decompressed(counts: str | bytes) -> list[int]:
    """Decode run lengths: 5 bits per character, the differences to the run before the last from the fourth run on."""
    codes = [each - 48 for each in (counts.encode(errors="replace") if isinstance(counts, str) else counts)]
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        if not 0 <= code < 64:
            raise InputError("its run-length mask is damaged: `counts` has a character out of range; export it again")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        value -= (1 << shift) if code & 16 else 0
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise InputError("its run-length mask is damaged: `counts` ends within a number; export it again")
    return runs
