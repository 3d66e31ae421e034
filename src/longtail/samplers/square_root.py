"""Square-root sampling (Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", ECCV 2018).

https://arxiv.org/abs/1805.00932; Eq. 1 with q = 1/2 in Kang et al., "Decoupling Representation and Classifier", ICLR
2020, https://arxiv.org/abs/1910.09217: a class is drawn in proportion to n ** (1/2), then one of its images.
Shapes: N = training images, M = images of an epoch.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass


class SquareRootSampler(Sampler):
    """Classes as often as the square root of how full they are: between the data and balance.

    Args:
        targets: label of each training image, shape (N,).
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)  # 90 : 10 becomes 3 : 1
        >>> order = SquareRootSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 2)
        0.25
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Tensor | Sequence[int], **contract: Unpack[Contract]) -> None:
        super().__init__(targets, **contract)
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        return self.groups.draw(self.groups.counts_K**0.5, self.num_samples, generator)
