"""Class-balanced sampling (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, Eq. 1 with q = 0: every class is equally likely, then every image of that class.
Shapes: N = training images, M = images of an epoch.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass


class ClassBalancedSampler(Sampler):
    """Every class equally often: an image is drawn, with replacement, from a class drawn at random.

    Made for losses that do not know the class counts. Under a balanced loss it balances twice.

    Args:
        targets: label of each training image, shape (N,).
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ClassBalancedSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 1)
        0.5
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Tensor | Sequence[int], **contract: Unpack[Contract]) -> None:
        super().__init__(targets, **contract)
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        return self.groups.draw(torch.ones_like(self.groups.counts_K), self.num_samples, generator)
