"""Search for test images that are in the training split too, and for images under two labels.

Shapes: N = images, C = classes.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from longtail.data.dataset import Conflict, Duplicate
from longtail.data.packed import file_size, read_bytes, read_tail
from longtail.data.splits import first_few

TAIL_BYTES = 256
MIN_CONTRAST = 10
HASH_BITS = 4
LEVELS = 4
CHUNK = 64

Gray = np.typing.NDArray[np.uint8]
Flags = np.typing.NDArray[np.bool_]
Hashes = np.typing.NDArray[np.uint64]
Matches = list[tuple[int, int]]
"""Pairs of an image and the earlier image that equals it."""
Digests = Mapping[int, bytes]
"""Digests of images by index."""


@dataclass(frozen=True)
class Found:
    """Duplicates of a data set.

    Args:
        same: Test images that are training images too.
        near: Test images that look like a training image.
        conflicts: Images under two labels.
        tested: Number of test images.
    """

    same: tuple[Duplicate, ...]
    near: tuple[Duplicate, ...]
    conflicts: tuple[Conflict, ...]
    tested: int

    def notes(self) -> list[str]:
        """Return a sentence about each kind of duplicate."""
        notes = []
        if self.same:
            named = first_few([f"{each.test} = {each.train}" for each in self.same])
            notes.append(f"{len(self.same):,} of {self.tested:,} test images are in the training split too: {named}.")
        if self.near:
            named = first_few([f"{each.test} ~ {each.train}" for each in self.near])
            notes.append(
                f"{len(self.near):,} of {self.tested:,} test images look like a training image, as resized or "
                f"re-encoded copies do: {named}."
            )
        if self.conflicts:
            named = first_few(
                [f"{each.path} ({each.label}) = {each.other_path} ({each.other_label})" for each in self.conflicts]
            )
            notes.append(f"{len(self.conflicts):,} images occur under two labels: {named}.")
        return notes


def find_duplicates(
    digests: Digests,
    thumbs: Tensor | None,
    train: Sequence[int],
    test: Sequence[int],
    names: Sequence[str],
    labels: Mapping[int, str],
) -> Found:
    """Find duplicates among the images of a data set.

    Args:
        digests: Digests by index; an image without one equals no other.
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9). None omits the search for similar images.
        train: Indices of the training images.
        test: Indices of the test images.
        names: Paths of the N images.
        labels: Class name of each image, by index.
    """
    same = matches(digests, train, test)
    rest = sorted(set(test) - {copy for copy, _ in same})
    near = [] if thumbs is None else near_duplicates(thumbs, train, rest)
    conflicts = label_conflicts(digests, labels)
    return Found(
        tuple(Duplicate(names[copy], names[original]) for copy, original in same),
        tuple(Duplicate(names[copy], names[original]) for copy, original in near),
        tuple(Conflict(names[a], labels[a], names[b], labels[b]) for a, b in conflicts),
        len(test),
    )


def equal_pixels(pixels: Tensor, train: Sequence[int], test: Sequence[int]) -> Matches:
    """Find test images that equal a training image in every pixel.

    Args:
        pixels: All images, uint8, shape (N, 3, H, W), on the CPU.
        train: Indices of the training images.
        test: Indices of the test images.

    Returns:
        Pairs of a test image and the first training image that equals it.

    Example:
        >>> import torch
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
    for key in (file_size, lambda path: read_tail(path, TAIL_BYTES)):
        key_of = {index: key(paths[index]) for index in indices}
        uses = Counter(key_of.values())
        indices = [index for index in indices if uses[key_of[index]] > 1]
    return {index: hashlib.sha256(read_bytes(paths[index])).digest() for index in indices}


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


def label_conflicts(digests: Digests, labels: Mapping[int, str]) -> Matches:
    """Return the images that equal an earlier image of another class, each with that image.

    Args:
        digests: Digests by index.
        labels: Class name of each image, by index.

    Example:
        >>> label_conflicts({0: b"a", 1: b"b", 2: b"a"}, {0: "cat", 1: "dog", 2: "dog"})
        [(2, 0)]
    """
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
    values, structured, hashes = _hashed(thumbs)
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


def similar_pairs(thumbs: Tensor) -> Matches:
    """Find all pairs of images that match as in `near_duplicates`.

    Args:
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9).

    Returns:
        Pairs of an image and a later one.
    """
    values, structured, hashes = _hashed(thumbs)
    known = np.flatnonzero(structured)
    found: Matches = []
    for start in range(0, len(known), CHUNK):
        few = known[start : start + CHUNK]
        rows, columns = (np.bitwise_count(hashes[few, None] ^ hashes[None, known]) <= HASH_BITS).nonzero()
        later = known[columns] > few[rows]
        first, second = few[rows[later]], known[columns[later]]
        difference = np.abs(values[first].astype(np.int16) - values[second]).mean(axis=(1, 2))
        alike = difference <= LEVELS
        found += zip(first[alike].tolist(), second[alike].tolist(), strict=True)
    return found


def _hashed(thumbs: Tensor) -> tuple[Gray, Flags, Hashes]:
    """Return the gray images, whether each has enough structure to be compared, and their difference hashes."""
    values = thumbs.numpy()
    bits = (values[:, :, :-1] > values[:, :, 1:]).reshape(len(values), 64)
    structured = (values.reshape(len(values), -1).std(1) >= MIN_CONTRAST) & (np.abs(bits.sum(1) - 32) <= 24)
    return values, structured, np.packbits(bits, axis=1).view(np.uint64).ravel()
