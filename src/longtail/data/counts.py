"""How many training images each class has, and what follows from it: prior, imbalance, shot groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtail.errors import InputError


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Training images per class.

    Args:
        counts: shape (C,), whole numbers >= 0, in the order of the labels; a list or a tensor.

    Raises:
        InputError: if there are fewer than two classes, or a count is negative or no whole number.

    Example:
        >>> counts = ClassCounts([500, 50, 5])
        >>> counts.imbalance_factor
        100.0
        >>> counts.prior
        tensor([0.9009, 0.0901, 0.0090])
        >>> counts.groups()["few"]
        tensor([False, False,  True])
    """

    counts: Tensor

    def __init__(self, counts: Countable) -> None:
        object.__setattr__(self, "counts", _checked(counts))

    @classmethod
    def from_targets(cls, targets: Tensor, num_classes: int) -> ClassCounts:
        """Count labels: `targets` of shape (N,), each in [0, num_classes)."""
        if len(targets) and int(targets.max()) >= num_classes:
            raise InputError(
                f"labels must lie below the number of classes, {num_classes}, but one is {int(targets.max())}"
            )
        return cls(torch.bincount(targets.cpu(), minlength=num_classes))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        """Training images in all."""
        return int(self.counts.sum())

    @property
    def prior(self) -> Tensor:
        """Share of each class, shape (C,), float32, sums to one."""
        return (self.counts.double() / self.total).float()

    @property
    def imbalance_factor(self) -> float:
        """Largest count over smallest count among the classes that have images."""
        present = self.counts[self.counts > 0]
        return float(present.max() / present.min())

    @property
    def gini(self) -> float:
        """Gini coefficient of the counts: 0 when all classes are equal, towards 1 when one has everything."""
        ordered_C = self.counts.double().sort().values
        ranks_C = torch.arange(1, len(self) + 1, dtype=torch.float64)
        n = len(self)
        return float((2 * (ranks_C * ordered_C).sum() / (n * ordered_C.sum())) - (n + 1) / n)

    def groups(self, many: int = 100, few: int = 20, *, many_closed: bool = False) -> dict[str, Tensor]:
        """Masks of shape (C,) by number of training images: many > 100, few < 20, medium between.

        Args:
            many: a class with more images than this is "many".
            few: a class with fewer images than this is "few".
            many_closed: count a class with exactly `many` images as "many", as the ELM paper does (so does many - 1).
        """
        if few > many:
            raise InputError(f"the few-shot limit must not exceed the many-shot limit, but {few} > {many}")
        is_many = self.counts >= many if many_closed else self.counts > many
        is_few = self.counts < few
        return {"many": is_many, "medium": ~(is_many | is_few), "few": is_few}

    def quantile_groups(self, shares: tuple[float, float] = (1 / 3, 1 / 3)) -> dict[str, Tensor]:
        """Masks by rank instead of fixed limits: the fullest share of the classes, the next, and the rest.

        For data on which the fixed limits leave a group empty. Ties are broken by class order.

        Example:
            >>> ClassCounts([9, 8, 7, 6, 5, 4]).quantile_groups()["many"]
            tensor([ True,  True, False, False, False, False])
        """
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError(f"the shares of many and medium must be >= 0 and sum to at most 1, not {shares}")
        order = torch.argsort(self.counts, descending=True, stable=True)
        ends = [round(len(self) * shares[0]), round(len(self) * (shares[0] + shares[1])), len(self)]
        masks, start = {}, 0
        for name, end in zip(("many", "medium", "few"), ends, strict=True):
            masks[name] = torch.zeros(len(self), dtype=torch.bool)
            masks[name][order[start:end]] = True
            start = end
        return masks


Countable = Tensor | Sequence[int] | ClassCounts


def _checked(counts: Countable) -> Tensor:
    if isinstance(counts, ClassCounts):
        return counts.counts
    values = torch.as_tensor(counts).detach().cpu()
    if values.ndim != 1 or len(values) < 2:
        raise InputError(f"class counts need at least two classes in one dimension, not shape {tuple(values.shape)}")
    if values.is_floating_point() and not torch.equal(values, values.round()):
        raise InputError("class counts must be whole numbers of images; to pass a prior, multiply it by the total")
    if not bool((values > 0).any()):
        raise InputError("class counts need at least one class with an image, but all are 0")
    if int(values.min()) < 0:
        raise InputError(f"class counts must be >= 0, but class {int(values.argmin())} has {int(values.min())}")
    return values.long()
