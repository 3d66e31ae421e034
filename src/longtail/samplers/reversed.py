"""Reversed sampling (Zhou et al., "BBN: Bilateral-Branch Network", CVPR 2020).

https://arxiv.org/abs/1912.02413, Sec. 4.2: a class is drawn in proportion to 1 / n, then one of its images.
Shapes: N = training images, M = images of an epoch.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass


class ReversedSampler(Sampler):
    """The rarer a class, the more often it is drawn: the long tail turned round.

    An image of a class a hundred times rarer is drawn ten thousand times as often: use it for a part of a model (BBN's
    second branch, CMO's foregrounds), not alone.

    Args:
        targets: label of each training image, shape (N,).
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ReversedSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 1)
        0.9
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Tensor | Sequence[int], **contract: Unpack[Contract]) -> None:
        super().__init__(targets, **contract)
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        return self.groups.draw(1 / self.groups.counts_K, self.num_samples, generator)
