"""Summary of a data set before training, and search for test images that are in the training split too.

Shapes: N = images, C = classes.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.data.dataset import Dataset

TAIL_BYTES = 256
MIN_CONTRAST = 10
HASH_BITS = 4
LEVELS = 4

Matches = list[tuple[int, int]]
"""Pairs of an image and the earlier image that equals it."""
Digests = Mapping[int, bytes]
"""Digests of images by index."""


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
    return matches(pixel_digests(pixels, (*train, *test)), train, test)


def pixel_digests(pixels: Tensor, indices: Sequence[int]) -> Digests:
    """Return the digest of the pixels of each image.

    Args:
        pixels: All images, uint8, shape (N, 3, H, W), on the CPU.
        indices: Images to digest.
    """
    return {index: hashlib.sha256(pixels[index].numpy().tobytes()).digest() for index in indices}


def equal_files(paths: Sequence[Path], train: Sequence[int], test: Sequence[int]) -> Matches:
    """Find test images whose file equals that of a training image in every byte.

    Args:
        paths: N files.
        train: Indices of the training images.
        test: Indices of the test images.

    Returns:
        Pairs of a test image and the first training image that equals it.
    """
    return matches(file_digests(paths, (*train, *test)), train, test)


def file_digests(paths: Sequence[Path], indices: Sequence[int]) -> Digests:
    """Return the digest of each file that equals another one, and of a few others.

    Only files whose size and last bytes occur more than once are read in full.

    Args:
        paths: N files.
        indices: Files to compare.
    """
    for key in (os.path.getsize, _tail):
        key_of = {index: key(paths[index]) for index in indices}
        uses = Counter(key_of.values())
        indices = [index for index in indices if uses[key_of[index]] > 1]
    return {index: hashlib.sha256(paths[index].read_bytes()).digest() for index in indices}


def _tail(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(-min(TAIL_BYTES, os.path.getsize(path)), os.SEEK_END)
        return file.read()


def matches(digests: Digests, train: Sequence[int], test: Sequence[int]) -> Matches:
    """Return the test images that equal a training image, each with the first such image.

    Args:
        digests: Digests by index; an image without one equals no other.
        train: Indices of the training images.
        test: Indices of the test images.
    """
    first: dict[bytes, int] = {}
    for index in train:
        if index in digests:
            first.setdefault(digests[index], index)
    return [(index, first[digests[index]]) for index in test if index in digests and digests[index] in first]


def label_conflicts(digests: Digests, targets_N: Tensor) -> Matches:
    """Return the images that equal an earlier image of another class, each with that image.

    Args:
        digests: Digests by index.
        targets_N: Labels, int64, shape (N,).

    Example:
        >>> label_conflicts({0: b"a", 1: b"b", 2: b"a"}, torch.tensor([0, 1, 1]))
        [(2, 0)]
    """
    labels = targets_N.tolist()
    first: dict[bytes, int] = {}
    found = []
    for index in sorted(digests):
        original = first.setdefault(digests[index], index)
        if labels[original] != labels[index]:
            found.append((index, original))
    return found


def near_duplicates(thumbs: Tensor, train: Sequence[int], test: Sequence[int]) -> Matches:
    """Find test images that look like a training image, as a resized or re-encoded copy does.

    Two images match if their difference hashes (dHash: whether each pixel of the 9 x 8 gray image is brighter than its
    right neighbor) differ in at most 4 of 64 bits, and their gray images by at most 4 levels of 255 on average. Images
    with little structure never match.

    Args:
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9).
        train: Indices of the training images.
        test: Indices of the test images.

    Returns:
        Pairs of a test image and the most similar training image.
    """
    values = thumbs.numpy()
    bits = (values[:, :, :-1] > values[:, :, 1:]).reshape(len(values), 64)
    structured = (values.reshape(len(values), -1).std(1) >= MIN_CONTRAST) & (np.abs(bits.sum(1) - 32) <= 24)
    hashes = np.packbits(bits, axis=1).view(np.uint64).ravel()
    known = np.array([index for index in train if structured[index]], dtype=np.int64)
    found: Matches = []
    for index in test:
        if not structured[index] or not len(known):
            continue
        near = known[np.bitwise_count(hashes[known] ^ hashes[index]) <= HASH_BITS]
        if len(near):
            difference = np.abs(values[near].astype(np.int16) - values[index]).mean(axis=(1, 2))
            if difference.min() <= LEVELS:
                found.append((index, int(near[difference.argmin()])))
    return found
