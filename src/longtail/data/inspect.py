"""Summary of a data set before training, and search for test images that are in the training split too.

Shapes: N = images, C = classes.
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from longtail.data.dataset import Dataset

TAIL_BYTES = 256

Matches = list[tuple[int, int]]
"""Pairs of a test image and the first training image that equals it."""


@dataclass(frozen=True)
class Inspection:
    """Size and balance of a data set.

    Args:
        images: Number of training images, before a validation split is held out.
        held_out: Number of these images that are held out for validation.
        classes: C, including the classes without a training image.
        counts: Training images of each class before the hold-out, in the order of the labels. The shot groups, the
            imbalance factor and the recommended method refer to these counts.
        imbalance_factor: Largest count divided by the smallest count, over the classes that have images.
        gini: Gini coefficient of the counts.
        many: Number of classes with more than 100 training images.
        medium: Number of classes with 20 to 100 training images.
        few: Number of classes with fewer than 20 training images.
        zero_shot: Names of the classes without a training image.
        one_shot: Names of the classes with one training image.
        val_images: Number of validation images.
        test_images: Number of test images.
        test_balanced: Whether all classes have the same number of test images.
        duplicates: Number of test images that are also in the training split.
        skipped: Number of unreadable images left out.
        notes: Notes of the load report.
    """

    images: int
    held_out: int
    classes: int
    counts: tuple[int, ...]
    imbalance_factor: float
    gini: float
    many: int
    medium: int
    few: int
    zero_shot: tuple[str, ...]
    one_shot: tuple[str, ...]
    val_images: int
    test_images: int
    test_balanced: bool
    duplicates: int
    skipped: int
    notes: tuple[str, ...]


def inspect_data(dataset: Dataset) -> Inspection:
    """Summarize the size and balance of a data set.

    Args:
        dataset: Data set of any source.

    Example:
        >>> from longtail.data import Part, ResidentImages, Split
        >>> images = ResidentImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
        >>> train, test = Part(images, torch.tensor([0, 0, 0, 1])), Part(images, torch.tensor([0, 0, 1, 1]))
        >>> summary = inspect_data(Dataset("toy", ("cat", "dog"), train, None, test, Split("toy", "", 4)))
        >>> summary.imbalance_factor, summary.one_shot, summary.test_balanced
        (3.0, ('dog',), True)
    """
    counts = dataset.group_counts
    groups = counts.groups()
    test_C = torch.bincount(dataset.test.targets, minlength=len(counts))
    per_class = tuple(counts.counts.tolist())
    return Inspection(
        images=counts.total,
        held_out=counts.total - dataset.class_counts.total,
        classes=len(counts),
        counts=per_class,
        imbalance_factor=counts.imbalance_factor,
        gini=counts.gini,
        many=int(groups["many"].sum()),
        medium=int(groups["medium"].sum()),
        few=int(groups["few"].sum()),
        zero_shot=_with_count(0, per_class, dataset.class_names),
        one_shot=_with_count(1, per_class, dataset.class_names),
        val_images=len(dataset.val) if dataset.val is not None else 0,
        test_images=len(dataset.test),
        test_balanced=bool((test_C == test_C[0]).all()),
        duplicates=dataset.load_report.duplicates,
        skipped=dataset.load_report.skipped,
        notes=dataset.load_report.notes,
    )


def _with_count(wanted: int, counts: tuple[int, ...], class_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name, count in zip(class_names, counts, strict=True) if count == wanted)


def equal_pixels(pixels: Tensor, train: Sequence[int], test: Sequence[int]) -> Matches:
    """Find test images that equal a training image in every pixel.

    Args:
        pixels: All images, uint8, shape (N, 3, H, W), on the CPU.
        train: Indices of the training images.
        test: Indices of the test images.

    Returns:
        Pairs of a test image and the first training image that equals it.

    Example:
        >>> equal_pixels(torch.tensor([1, 2, 1], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 2, 2), [0, 1], [2])
        [(2, 0)]
    """
    return _matches(lambda index: hashlib.sha256(pixels[index].numpy().tobytes()).digest(), train, test)


def equal_files(paths: Sequence[Path], train: Sequence[int], test: Sequence[int]) -> Matches:
    """Find test images whose file equals that of a training image in every byte.

    Only files whose size and last bytes occur in both splits are read in full.

    Args:
        paths: N files.
        train: Indices of the training images.
        test: Indices of the test images.

    Returns:
        Pairs of a test image and the first training image that equals it.
    """
    for key in (os.path.getsize, _tail):
        key_of = {index: key(paths[index]) for index in (*train, *test)}
        shared = {key_of[index] for index in train} & {key_of[index] for index in test}
        train = [index for index in train if key_of[index] in shared]
        test = [index for index in test if key_of[index] in shared]
    return _matches(lambda index: hashlib.sha256(paths[index].read_bytes()).digest(), train, test)


def _tail(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(-min(TAIL_BYTES, os.path.getsize(path)), os.SEEK_END)
        return file.read()


def _matches(key: Callable[[int], Hashable], train: Sequence[int], test: Sequence[int]) -> Matches:
    first: dict[Hashable, int] = {}
    for index in train:
        first.setdefault(key(index), index)
    found = ((index, first.get(key(index))) for index in test)
    return [(index, original) for index, original in found if original is not None]
