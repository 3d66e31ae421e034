"""What every source of data becomes: images that yield uint8 batches, labels, names, and an account of both.

Shapes: N = images, S = steps of an epoch, B = batch, R = uniform random numbers an image may use, H x W = image size.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts


class Images(Protocol):
    """A set of images, wherever they live. Batches have one shape, uint8, RGB, on the training device."""

    size: int

    def __len__(self) -> int:
        """Number of images."""

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """One uint8 tensor (B, 3, H, W) per row of `order_SB`.

        Args:
            order_SB: which images, int64 on the CPU.
            uniforms_SBR: random numbers in [0, 1) for what happens while an image is read (a random crop of a large
                image); None asks for the plain view that evaluation uses.
        """

    def subset(self, indices: Tensor) -> "Images":
        """The images at `indices`, in that order."""

    def thumbnail(self, index: int) -> Tensor:
        """One image for a person to look at: uint8 (3, h, w) on the CPU."""


@dataclass(frozen=True, eq=False)
class Part:
    """Images with their labels: the training, validation or test part of a data set.

    Args:
        images: N images.
        targets: labels, int64, shape (N,), on the CPU.
    """

    images: Images
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, indices: Tensor) -> "Part":
        """The examples at `indices`, in that order."""
        return Part(self.images.subset(indices), self.targets[indices])


@dataclass(frozen=True)
class Split:
    """Which images are trained on: results of different splits never share a column.

    Args:
        name: the protocol, such as "ldam-seed0" ("ldam-seed0-val0.1" with a tenth held out), or "folder".
        sha256: over the little-endian int64 bytes of the index list; of own images, over relative paths and labels.
        images: training images.
    """

    name: str
    sha256: str
    images: int


@dataclass(frozen=True)
class LoadReport:
    """What happened while the data were read, for the result and the report.

    Args:
        notes: sentences a reader of the result must know ("a balanced test part was held out ...").
        skipped: unreadable images left out (`on_bad_image="skip"`).
        duplicates: images that stand in both the training and the test part.
    """

    notes: tuple[str, ...] = ()
    skipped: int = 0
    duplicates: int = 0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready to train on.

    Args:
        name: as the user gave it: a data name or a path.
        class_names: C names, in the order of the labels.
        train: the images learnt from.
        val: a held-out part of the *training* images, for choices; None where nothing was held out.
        test: the part that is read once, at the end.
        split: identity of the training images.
        imbalance_factor: as asked for; None where the data came as they are.
        mean: of each colour channel over the training images, in [0, 1].
        std: likewise.
        load_report: what happened while reading.
        val_from_train: whether `val` was taken out of the training images, rather than brought by the data.
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

    @cached_property
    def class_counts(self) -> ClassCounts:
        """Training images per class, without those held out: what losses and samplers go by."""
        return ClassCounts.from_targets(self.train.targets, len(self.class_names))

    @cached_property
    def group_counts(self) -> ClassCounts:
        """Training images per class before any were held out for choices: what many, medium and few go by."""
        if self.val is None or not self.val_from_train:
            return self.class_counts
        everything = torch.cat([self.train.targets, self.val.targets])
        return ClassCounts.from_targets(everything, len(self.class_names))


def balanced_holdout(targets: Tensor, num_classes: int, per_class: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Take a given number of images of each class out of a labelled set.

    Args:
        targets: labels, shape (N,).
        num_classes: C.
        per_class: how many to hold out of each class, shape (C,).
        seed: of the draw; the same seed holds out the same images.

    Returns:
        Indices kept and indices held out, each in the original order.

    Example:
        >>> kept, held = balanced_holdout(torch.tensor([0, 0, 0, 1, 1]), 2, torch.tensor([1, 1]), seed=0)
        >>> len(kept), len(held)
        (3, 2)
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(targets[order], stable=True)]
    counts_C = torch.bincount(targets, minlength=num_classes)
    first_C = counts_C.cumsum(0) - counts_C
    labels = targets[by_class]
    place_in_class = torch.arange(len(targets)) - first_C[labels]
    held = torch.zeros(len(targets), dtype=torch.bool)
    held[by_class[place_in_class < per_class[labels]]] = True
    everything = torch.arange(len(targets))
    return everything[~held], everything[held]
