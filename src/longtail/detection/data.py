"""Images with labeled objects, read from disk or drawn, as a detector takes them.

Shapes: N = images, C = classes, A = objects, n = objects of one image, H x W = size of an image or its view, S = steps,
B = batch, R = uniform random numbers per image.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from longtail._threads import default_workers
from longtail.data.decode import decode_image
from longtail.data.stream import WorkerPool
from longtail.detection.augment import VIEW_UNIFORMS, View
from longtail.detection.segments import NO_MASK, Segments
from longtail.errors import InputError

Target = dict[str, Tensor]
"""Objects of one image, by the names of torchvision: `boxes`, `labels`, `masks`, `image_id`, `iscrowd` and `size`."""
Group = Literal["r", "c", "f"]
MAX_RARE, MAX_COMMON = 10, 100
"""Largest number of training images of a rare and of a common class, as in the files of LVIS."""


class ImageRecord(NamedTuple):
    """One image of a data set.

    Args:
        id: Number of the image in its annotation file.
        file: Path of the image.
        width: Width in pixels.
        height: Height in pixels.
    """

    id: int
    file: Path
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Objects:
    """All annotated objects of a data set, image by image.

    Args:
        starts_N: First object of each image, and the number of objects at the end, int64, shape (N + 1,).
        boxes_A4: Left, top, right and bottom in pixels, float64.
        labels_A: Classes, from 0, int64.
        crowd_A: Whether an object is a crowd, a region with many objects of one class, bool.
        areas_A: Areas of the masks or boxes in square pixels, float64.
        ids_A: Numbers of the objects in the annotation file, int64.
        segments: Masks of the objects.
    """

    starts_N: np.ndarray[Any, Any]
    boxes_A4: np.ndarray[Any, Any]
    labels_A: np.ndarray[Any, Any]
    crowd_A: np.ndarray[Any, Any]
    areas_A: np.ndarray[Any, Any]
    ids_A: np.ndarray[Any, Any]
    segments: Segments

    def __len__(self) -> int:
        return len(self.labels_A)

    def of(self, index: int, crowds: bool = True) -> np.ndarray[Any, Any]:
        """Return the positions of the objects of an image.

        Args:
            index: Position of the image.
            crowds: Include crowds.
        """
        found = np.arange(self.starts_N[index], self.starts_N[index + 1])
        return found if crowds else found[~self.crowd_A[found]]

    def image_of_each(self) -> np.ndarray[Any, Any]:
        """Return the position of the image of each object, shape (A,)."""
        return np.repeat(np.arange(len(self.starts_N) - 1), np.diff(self.starts_N))


@dataclass(frozen=True, eq=False)
class Verified:
    """What annotators checked in each image of a federated data set such as LVIS. Class numbers count from 0.

    Args:
        negatives: For each image, classes that are verified to be absent.
        incomplete: For each image, classes of which not all objects are annotated.
    """

    negatives: Sequence[frozenset[int]]
    incomplete: Sequence[frozenset[int]]


def groups_by_count(image_counts_C: Sequence[int]) -> tuple[Group, ...]:
    """Group classes by their number of training images: rare (up to 10), common (up to 100) and frequent, as LVIS does.

    Args:
        image_counts_C: Training images with each class.

    Example:
        >>> groups_by_count([10, 11, 101])
        ('r', 'c', 'f')
    """
    return tuple("r" if n <= MAX_RARE else "c" if n <= MAX_COMMON else "f" for n in image_counts_C)


class DetectionDataset:
    """Images with boxes and, if all objects have them, masks. `read_annotations` makes one from files.

    Args:
        images: N images.
        categories: Names of the C classes.
        category_ids: Numbers of the classes in the annotation file.
        objects: All objects.
        groups: Group of each class: "r" (rare), "c" (common) or "f" (frequent). Default: by the images of this data
            set, see `groups_by_count`.
        verified: Checked classes per image. None if every image is annotated for all classes.
        read: Function from the position of an image to its pixels, uint8 (3, H, W). Default: decode the file.
        repairs: Number of repaired or dropped objects by kind of repair.
    """

    def __init__(
        self,
        images: Sequence[ImageRecord],
        categories: Sequence[str],
        category_ids: Sequence[int],
        objects: Objects,
        *,
        groups: Sequence[Group] | None = None,
        verified: Verified | None = None,
        read: Callable[[int], Tensor] | None = None,
        repairs: Mapping[str, int] | None = None,
    ) -> None:
        self.images, self.objects, self.verified = list(images), objects, verified
        self.categories, self.category_ids = tuple(categories), tuple(category_ids)
        self.repairs = dict(repairs or {})
        own = ~objects.crowd_A
        pairs = np.unique(np.stack([objects.image_of_each()[own], objects.labels_A[own]], 1), axis=0)
        self.image_counts_C = torch.from_numpy(np.bincount(pairs[:, 1], minlength=len(self.categories)))
        self.instance_counts_C = torch.from_numpy(np.bincount(objects.labels_A[own], minlength=len(self.categories)))
        self.groups = groups_by_count(self.image_counts_C.tolist()) if groups is None else tuple(groups)
        self.has_masks = len(objects) > 0 and bool((objects.segments.kinds_A != NO_MASK).all())
        self._reader = _Reader(self.images, objects, self.has_masks, read)
        self._pools: dict[bool, WorkerPool] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pools": {}}

    def image_labels(self, crowds: bool = False) -> list[list[int]]:
        """Return the classes in each image, from 0, for `RepeatFactorSampler`.

        Args:
            crowds: Include the classes of crowds.
        """
        labels_A = self.objects.labels_A
        return [np.unique(labels_A[self.objects.of(index, crowds)]).tolist() for index in range(len(self))]

    def sample(self, index: int) -> tuple[Tensor, Target]:
        """Return the pixels of an image, uint8 (3, H, W), and all of its objects, crowds included.

        Args:
            index: Position of the image.

        Returns:
            Pixels, and a mapping: `boxes` (n, 4) float32 (left, top, right, bottom), `labels` (n,) int64 in 1..C
            because torchvision reserves 0 for the background, `masks` (n, H, W) uint8 if the data set has masks,
            `iscrowd` (n,) int64, `image_id` () and `size` (2,), the height and width of the file.

        Raises:
            BadImage: If the image cannot be read.
            InputError: If its size differs from that in the annotation file.
        """
        record = self.images[index]
        pixels = self._reader.pixels(index)
        return self._finished(self._reader.packed(index, pixels, (record.height, record.width)), torch.device("cpu"))

    def batches(
        self,
        order_SB: Tensor,
        uniforms_SBR: Tensor | None = None,
        *,
        view: View = View(),  # noqa: B008 - immutable
        device: torch.device | str = "cpu",
        workers: int | None = None,
    ) -> Iterator[list[tuple[Tensor, Target]]]:
        """Yield a list of images and targets per row of `order_SB`, resized, in that order and without crowds.

        Worker processes read ahead. They are kept for all epochs.

        Args:
            order_SB: Positions of the images of each batch, int64.
            uniforms_SBR: Numbers in [0, 1) that choose the random views, see `view_uniforms`. None gives the views of
                the evaluation.
            view: Sizes of the views.
            device: Device of the training.
            workers: Number of reading processes. 0 reads in this process; None uses one per core, at most 8.

        Raises:
            BadImage: If an image cannot be read.
            InputError: If an image has another size than its annotation, or there are fewer than two numbers per image.
        """
        if uniforms_SBR is not None and uniforms_SBR.shape[-1] < VIEW_UNIFORMS:
            raise InputError(f"a view needs {VIEW_UNIFORMS} random numbers per image, got {uniforms_SBR.shape[-1]}")
        device, workers = torch.device(device), default_workers() if workers is None else workers
        pin_memory = device.type == "cuda"
        if pin_memory not in self._pools:
            self._pools[pin_memory] = WorkerPool(self._reader, pin_memory)
        pieces = self._pools[pin_memory].read(
            _requests(order_SB, uniforms_SBR, view), workers if order_SB.numel() > 1 else 0
        )
        for row in order_SB.tolist():
            yield [self._finished(next(pieces), device) for _ in row]
        next(pieces, None)  # ends the pass, so that its workers are kept

    def _finished(self, packed: "_Packed", device: torch.device) -> tuple[Tensor, Target]:
        record = self.images[packed.position]
        pixels = _to(device, packed.pixels)
        target = {"boxes": _to(device, packed.boxes), "labels": _to(device, packed.labels)}
        target |= {"iscrowd": _to(device, packed.crowd), "image_id": torch.tensor(record.id)}
        target["size"] = torch.tensor([record.height, record.width])
        if packed.masks is not None:
            target["masks"] = _unpacked(_to(device, packed.masks), pixels.shape[-1])
        return pixels, target


class _Request(NamedTuple):
    """View of an image that a worker reads: its position, the sizes, and two random numbers or None."""

    position: int
    view: View
    uniforms: tuple[float, ...] | None


class _Packed(NamedTuple):
    """View of an image as a worker sends it. The masks (n, H, W / 8) hold eight pixels per byte."""

    position: int
    pixels: Any
    boxes: Any
    labels: Any
    crowd: Any
    masks: Any


def _requests(order_SB: Tensor, uniforms_SBR: Tensor | None, view: View) -> Iterator[_Request]:
    for step, row in enumerate(order_SB.tolist()):
        uniforms = [None] * len(row) if uniforms_SBR is None else uniforms_SBR[step].tolist()
        for index, numbers in zip(row, uniforms, strict=True):
            yield _Request(index, view, None if numbers is None else tuple(numbers[:VIEW_UNIFORMS]))


@dataclass(eq=False)
class _Reader(Dataset["_Packed | InputError"]):
    """Reads views of images. Arrays cross the process border through a pipe, which no small /dev/shm can fill."""

    images: list[ImageRecord]
    objects: Objects
    has_masks: bool
    read: Callable[[int], Tensor] | None = field(repr=False)

    def __getitem__(self, request: _Request) -> "_Packed | InputError":
        """Return a view without crowds, or the error that stopped it."""
        try:
            pixels = self.pixels(request.position)
            height, width = pixels.shape[-2:]
            if request.uniforms is None:
                return self.packed(request.position, pixels, request.view.size(height, width), crowds=False)
            size = request.view.random_size(height, width, request.uniforms[0])
            flip = request.uniforms[1] < request.view.flip
            return self.packed(request.position, pixels, size, flip, crowds=False)
        except InputError as error:
            return error

    def pixels(self, index: int) -> Tensor:
        """Return the pixels of an image, uint8 (3, H, W), whose size has been checked."""
        if self.read is not None:
            return self.read(index)
        record = self.images[index]
        pixels = decode_image(record.file)
        check_size(record, pixels.shape[-1], pixels.shape[-2])
        return pixels

    def packed(
        self, index: int, pixels: Tensor, size: tuple[int, int], flip: bool = False, crowds: bool = True
    ) -> _Packed:
        """Return the view of an image and its objects."""
        original = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        own = self.objects.of(index, crowds)
        boxes = self.objects.boxes_A4[own] * np.array([size[1] / original[1], size[0] / original[0]] * 2)
        if flip:
            boxes = np.stack([size[1] - boxes[:, 2], boxes[:, 1], size[1] - boxes[:, 0], boxes[:, 3]], 1)
        bits = None
        if self.has_masks:
            bits = np.packbits(self.objects.segments.masks(own, original, size, flip), axis=-1)
        return _Packed(
            index,
            _resized(pixels, size, flip).numpy(),
            boxes.astype(np.float32),
            self.objects.labels_A[own] + 1,
            self.objects.crowd_A[own].astype(np.int64),
            bits,
        )


def _to(device: torch.device, value: Any) -> Tensor:
    return torch.as_tensor(value).to(device, non_blocking=True)


def _resized(pixels: Tensor, size: tuple[int, int], flip: bool) -> Tensor:
    if tuple(pixels.shape[-2:]) != size:
        from torchvision.transforms.v2 import functional as transforms

        pixels = transforms.resize(pixels, list(size), antialias=True)
    return (pixels.flip(-1) if flip else pixels).contiguous()


def _unpacked(bits_nHw: Tensor, width: int) -> Tensor:
    """Unpack masks on their device: one byte per pixel, shape (n, H, W)."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits_nHw.device)
    return ((bits_nHw[..., None] >> shifts) & 1).flatten(-2)[..., :width]


def check_size(record: ImageRecord, width: int, height: int) -> None:
    """Check the size of an image file against its annotation.

    Args:
        record: Image as annotated.
        width: Width of the upright image of the file.
        height: Height of the upright image of the file.

    Raises:
        SizeMismatchError: If the sizes differ.
    """
    if (record.width, record.height) != (width, height):
        turned = (
            "; the file is rotated by its EXIF orientation" if (record.height, record.width) == (width, height) else ""
        )
        raise SizeMismatchError(
            f"image {record.file} (id {record.id}) has {width} x {height} pixels, and its annotation states "
            f"{record.width} x {record.height}{turned}; annotate the file as it is, or correct `width` and `height`"
        )


class SizeMismatchError(InputError):
    """An image whose size differs from that in the annotation file. Its boxes would be wrong."""
