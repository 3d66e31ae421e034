"""The data set that every reader returns: images that yield uint8 batches, labels, class names and a load report.

Shapes: N = images, S = steps of an epoch, B = batch, R = uniform random numbers per image, C = classes,
H x W = image size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts

Resize = Literal["crop", "squash", "pad"]
"""Way to fit an image to the square that the model sees; see `longtail.data.views`."""


class Images(Protocol):
    """A set of images in memory or on disk. All batches have one shape, are uint8 RGB and on the training device."""

    size: int

    def __len__(self) -> int:
        """Return the number of images."""

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """Yield one uint8 tensor (B, 3, H, W) per row of `order_SB`.

        Args:
            order_SB: Indices of the images of each batch, int64 on the CPU.
            uniforms_SBR: Random numbers in [0, 1) for augmentation while an image is read, such as the random crop of a
                large image. None gives the plain view that evaluation uses.
        """

    def subset(self, indices: Tensor) -> "Images":
        """Return the images at `indices`, in that order."""

    def thumbnail(self, index: int) -> Tensor:
        """Return one image to show to a person: uint8 (3, h, w) on the CPU."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images and labels of one split: training, validation or test.

    Args:
        images: N images.
        targets: Labels, int64, shape (N,), on the CPU.
        paths: Paths of the image files relative to the root of the data. None if the images are no files.
    """

    images: Images
    targets: Tensor
    paths: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: Tensor) -> "Part":
        """Return the examples at `indices`, in that order."""
        paths = None if self.paths is None else tuple(self.paths[index] for index in indices.tolist())
        return Part(self.images.subset(indices), self.targets[indices], paths)


@dataclass(frozen=True)
class Split:
    """Identity of the training images. Results of different splits are never compared in one column.

    Args:
        name: Protocol that chose the images, such as "ldam-seed0", "ldam-seed0-val0.1" (a tenth held out) or "folder".
        sha256: Digest of the little-endian int64 bytes of the index list, or of relative paths and labels for image
            files.
        images: Number of training images.
    """

    name: str
    sha256: str
    images: int


@dataclass(frozen=True)
class Omission:
    """Files or folders that were left out for one reason.

    Args:
        reason: Why they were left out.
        count: Number of files or folders.
        paths: Some of the paths, relative to the data.
    """

    reason: str
    count: int
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """An image file that cannot be read.

    Args:
        path: Path of the file, relative to the data.
        reason: Why it cannot be read.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """A test image that is equal or similar to a training image.

    Args:
        test: Path of the test image.
        train: Path of the training image.
    """

    test: str
    train: str


@dataclass(frozen=True)
class Conflict:
    """One image under two labels.

    Args:
        path: Path of one of the files.
        label: Class of this file.
        other_path: Path of the other file.
        other_label: Class of the other file.
    """

    path: str
    label: str
    other_path: str
    other_label: str


@dataclass(frozen=True)
class LoadReport:
    """What happened while the data were read, for the result and the HTML report.

    Args:
        notes: Sentences for the reader of a result, such as "A balanced test split was held out ...".
        skipped: Number of unreadable images left out (`on_bad_image="skip"`).
        duplicates: Number of test images that are also in the training split.
        duplicate_images: These images, each with the first training image that equals it.
        near_duplicates: Test images that look like a training image.
        conflicts: Images that occur under two labels.
        unreadable: Images that were left out because they cannot be read.
        passed_over: Other files that were left out, by reason.
        groups: Number of groups of several images, which no held-out split separates.
    """

    notes: tuple[str, ...] = ()
    skipped: int = 0
    duplicates: int = 0
    duplicate_images: tuple[Duplicate, ...] = ()
    near_duplicates: tuple[Duplicate, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    passed_over: tuple[Omission, ...] = ()
    groups: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training.

    Args:
        name: Name or path given by the user.
        class_names: C names, in the order of the labels.
        train: Training split.
        val: Validation split, or None if nothing was held out.
        test: Test split, read once at the end.
        split: Identity of the training images.
        imbalance_factor: Requested imbalance factor, before rounding and before the validation split is held out. None
            if the data are used as they are.
        mean: Mean of each color channel over the training images, in [0, 1].
        std: Standard deviation of each color channel over the training images, in [0, 1].
        load_report: What happened while the data were read.
        val_from_train: Whether `val` was held out from the training images. False if the data came with it.
        bits: Bits that the gray values of more than 8 bits use. None without such images.
        resize: Way in which the images are fitted to the square; see `longtail.data.views`.
        group: Rule by which images are grouped; "none" if every image is one of its own.
    """

    name: str
    class_names: tuple[str, ...]
    train: Part
    val: Part | None
    test: Part
    split: Split
    imbalance_factor: float | None = None
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    load_report: LoadReport = field(default_factory=LoadReport)
    val_from_train: bool = False
    bits: int | None = None
    resize: Resize = "crop"
    group: str = "none"

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Training images per class without the held-out ones, as losses and samplers need them."""
        return ClassCounts.from_targets(self.train.targets, len(self.class_names))

    @cached_property
    def group_counts(self) -> ClassCounts:
        """Training images per class before a validation split was held out, as the shot groups need them."""
        if self.val is None or not self.val_from_train:
            return self.class_counts
        everything = torch.cat([self.train.targets, self.val.targets])
        return ClassCounts.from_targets(everything, len(self.class_names))
