"""Progressively balanced sampling (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, Eq. 2: q_t = (1 - t/T) q_IB + (t/T) q_CB at epoch t of T. We count epochs from 0, so
that the last one is not quite balanced; the authors' code (`facebookresearch/classifier-balancing`) reaches balance in
the last epoch.
Shapes: N = training images, M = images of an epoch.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass


class ProgressivelyBalancedSampler(Sampler):
    """Begins as the data are and ends class-balanced, drawing with replacement throughout.

    Follows `progress`. In a loop of your own, call `set_epoch(epoch, progress=epoch / epochs)`.

    Args:
        targets: label of each training image, shape (N,).
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = ProgressivelyBalancedSampler(targets, num_samples=10_000)
        >>> [round(float(targets[sampler.order(0, 0, progress)].float().mean()), 1) for progress in (0.0, 0.5, 0.99)]
        [0.1, 0.3, 0.5]
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Tensor | Sequence[int], **contract: Unpack[Contract]) -> None:
        super().__init__(targets, **contract)
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        counts_K = self.groups.counts_K
        rates_K = (1 - progress) * counts_K / len(self.targets_N) + progress / len(counts_K)
        return self.groups.draw(rates_K, self.num_samples, generator)
