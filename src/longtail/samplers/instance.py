"""Instance-balanced sampling: every training image once an epoch, in a new order (the field's default)."""

import torch
from torch import Tensor

from longtail.samplers.base import Sampler, cycle_permutations


class InstanceSampler(Sampler):
    """Every image equally often: classes are seen as often as they are full.

    Args:
        targets: label of each training image, shape (N,).
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Example:
        >>> sampler = InstanceSampler([0, 0, 1])
        >>> sorted(sampler)
        [0, 1, 2]
    """

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        return cycle_permutations(len(self.targets_N), self.num_samples, generator)
