"""Class counts of a training set, and what follows from them: prior, imbalance and shot groups.

Shapes: N = images, C = classes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail.errors import InputError


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Number of training images per class.

    Args:
        counts: Integers >= 0 of shape (C,), in the order of the labels, as a list, an array or a tensor. A mapping, a
            `Counter` or a pandas Series is read by its labels, 0 to C - 1; the largest label gives C, and a label that
            is missing below it has the count 0.

    Raises:
        InputError: If there are fewer than two classes, no class has an image, a count is negative or not an integer,
            or a label of a mapping is not an integer >= 0.

    Example:
        >>> counts = ClassCounts([500, 50, 5])
        >>> counts.imbalance_factor
        100.0
        >>> counts.prior
        tensor([0.9009, 0.0901, 0.0090])
        >>> counts.groups()["few"]
        tensor([False, False,  True])
        >>> ClassCounts({2: 5, 0: 500, 1: 50}).counts
        tensor([500,  50,   5])
    """

    counts: Tensor

    def __init__(self, counts: Countable) -> None:
        object.__setattr__(self, "counts", _validate(counts))

    @classmethod
    def from_targets(cls, targets: Tensor, num_classes: int) -> ClassCounts:
        """Count the labels of a training set.

        Args:
            targets: Labels in [0, num_classes), int64, shape (N,).
            num_classes: C.

        Raises:
            InputError: If a label is not below `num_classes`.

        Example:
            >>> ClassCounts.from_targets(torch.tensor([0, 2, 0]), 3).counts
            tensor([2, 0, 1])
        """
        if len(targets) and int(targets.max()) >= num_classes:
            raise InputError(f"labels must be below the number of classes, {num_classes}, got {int(targets.max())}")
        return cls(torch.bincount(targets.cpu(), minlength=num_classes))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        """Number of training images."""
        return int(self.counts.sum())

    @property
    def prior(self) -> Tensor:
        """Share of each class, float32, shape (C,). The shares sum to one."""
        return (self.counts.double() / self.total).float()

    @property
    def imbalance_factor(self) -> float:
        """Largest count divided by the smallest count, over the classes that have images."""
        present = self.counts[self.counts > 0]
        return float(present.max() / present.min())

    @property
    def gini(self) -> float:
        """Gini coefficient of the counts: 0 if all are equal, close to 1 if one class has nearly all images."""
        ordered_C = self.counts.double().sort().values
        ranks_C = torch.arange(1, len(self) + 1, dtype=torch.float64)
        n = len(self)
        return float((2 * (ranks_C * ordered_C).sum() / (n * ordered_C.sum())) - (n + 1) / n)

    def groups(self, many: int = 100, few: int = 20, *, many_closed: bool = False) -> dict[str, Tensor]:
        """Group the classes by their number of training images.

        Args:
            many: Classes with more images than this are "many".
            few: Classes with fewer images than this are "few". The rest are "medium".
            many_closed: Whether a class with exactly `many` images is "many", as in the ELM paper.

        Returns:
            Boolean masks of shape (C,) under "many", "medium" and "few".

        Raises:
            InputError: If `few` is larger than `many`.
        """
        if few > many:
            raise InputError(f"`few` must be at most `many`, got few={few} and many={many}")
        is_many = self.counts >= many if many_closed else self.counts > many
        is_few = self.counts < few
        return {"many": is_many, "medium": ~(is_many | is_few), "few": is_few}

    def quantile_groups(self, shares: tuple[float, float] = (1 / 3, 1 / 3)) -> dict[str, Tensor]:
        """Group the classes by rank, for data on which fixed limits leave a group empty.

        Args:
            shares: Shares of the classes that are "many" and "medium". The rest are "few". Ties follow class order.

        Returns:
            Boolean masks of shape (C,) under "many", "medium" and "few".

        Raises:
            InputError: If a share is negative or the shares sum to more than one.

        Example:
            >>> ClassCounts([9, 8, 7, 6, 5, 4]).quantile_groups()["many"]
            tensor([ True,  True, False, False, False, False])
        """
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError(f"`shares` must be >= 0 and sum to at most 1, got {shares}")
        order = torch.argsort(self.counts, descending=True, stable=True)
        ends = [round(len(self) * shares[0]), round(len(self) * (shares[0] + shares[1])), len(self)]
        masks, start = {}, 0
        for name, end in zip(("many", "medium", "few"), ends, strict=True):
            masks[name] = torch.zeros(len(self), dtype=torch.bool)
            masks[name][order[start:end]] = True
            start = end
        return masks


MOST_LABELS = 10_000_000
"""Largest label in a mapping of class counts."""
Countable = Tensor | Sequence[int] | Mapping[int, int] | ClassCounts
"""What is accepted as class counts."""


def checked_targets(targets_B: Tensor, num_labels: int, ignore_index: int) -> Tensor:
    """Convert labels to int64 and check their range, without waiting for an accelerator.

    Args:
        targets_B: Labels of any integer type.
        num_labels: Number of labels. The largest allowed label is one less.
        ignore_index: Additional allowed label.

    Raises:
        InputError: If the labels are not integers, or a label on the CPU is out of range.

    Example:
        >>> checked_targets(torch.tensor([0, 255], dtype=torch.uint8), 2, ignore_index=255)
        tensor([  0, 255])
    """
    if targets_B.is_floating_point() or targets_B.is_complex() or targets_B.dtype == torch.bool:
        raise InputError(f"labels must be integers, got {targets_B.dtype}; convert them with `targets.long()`")
    targets_B = targets_B.long()
    compiling = torch.compiler.is_compiling()
    if targets_B.is_cuda or (compiling and not targets_B.is_meta):
        is_label_B = (targets_B >= 0) & (targets_B < num_labels) | (targets_B == ignore_index)
        torch._assert_async(is_label_B.all(), "a label is neither a class nor ignore_index")
    elif targets_B.is_cpu and targets_B.numel():
        lowest, highest = (int(limit) for limit in torch.aminmax(targets_B))
        if lowest < 0 or highest >= num_labels:  # a second look, since these may be ignored
            is_label_B = (targets_B >= 0) & (targets_B < num_labels) | (targets_B == ignore_index)
            if not bool(is_label_B.all()):
                raise InputError(
                    f"labels must be in [0, {num_labels - 1}] or equal to `ignore_index` ({ignore_index}), got "
                    f"{int(targets_B[~is_label_B][0])}; number the classes from 0"
                )
    return targets_B


def _in_label_order(counts: Any) -> Any:
    """Return the counts of a mapping or a pandas Series in the order of its labels."""
    pandas = sys.modules.get("pandas")  # a Series cannot exist before its package is imported
    if pandas is not None and isinstance(counts, pandas.Series):
        counts = counts.to_dict()
    if not isinstance(counts, Mapping):
        return counts
    labels = list(counts)
    if not labels or not all(isinstance(label, (int, np.integer)) and label >= 0 for label in labels):
        raise InputError(
            f"the labels of class counts must be integers >= 0, got {labels[:5]}; pass a list of the counts in the "
            "order of the labels"
        )
    if max(labels) > MOST_LABELS:
        raise InputError(f"the labels of class counts must be at most {MOST_LABELS:,}, got {max(labels)}")
    return [counts.get(label, 0) for label in range(int(max(labels)) + 1)]


def _validate(counts: Countable) -> Tensor:
    if isinstance(counts, ClassCounts):
        return counts.counts
    try:
        values = torch.as_tensor(_in_label_order(counts)).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"class counts must be integers in the order of the labels: {error}") from error
    values = values if values.is_floating_point() else values.long()
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"class counts need at least two classes in one dimension, got shape {tuple(values.shape)}")
    if values.is_floating_point() and not (torch.equal(values, values.round()) and bool(values.isfinite().all())):
        raise InputError("class counts must be whole numbers of images; to pass a prior, multiply it by the total")
    if not bool((values > 0).any()):
        raise InputError("class counts need at least one class with an image, but all are 0")
    if int(values.min()) < 0:
        raise InputError(f"class counts must be >= 0, but class {int(values.argmin())} has {int(values.min())}")
    if float(values.double().sum()) > 2**53:
        raise InputError(f"class counts must sum to at most 2**53, got {float(values.double().sum()):g}")
    return values.long()
