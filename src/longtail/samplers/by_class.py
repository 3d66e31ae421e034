"""Training images grouped by class: what every sampler that chooses the class first has in common.

Shapes: N = training images, M = images of an epoch, K = classes with at least one image.
"""

import torch
from torch import Tensor


class ByClass:
    """The images of each class, in one table: a class without images has no row, so none is ever drawn from it.

    Args:
        targets_N: label of each training image, int64, shape (N,).

    Attributes:
        members_N: images in the order of their labels.
        counts_K: images of each class.
        starts_K: where each class begins in `members_N`.

    Example:
        >>> groups = ByClass(torch.tensor([7, 0, 7]))
        >>> groups.members_N, groups.counts_K, groups.starts_K
        (tensor([1, 0, 2]), tensor([1, 2]), tensor([0, 1]))
    """

    def __init__(self, targets_N: Tensor) -> None:
        labels_N, self.members_N = targets_N.sort(stable=True)
        _, self.counts_K = torch.unique_consecutive(labels_N, return_counts=True)
        self.starts_K = self.counts_K.cumsum(0) - self.counts_K

    def draw(self, rates_K: Tensor, num_samples: int, generator: torch.Generator) -> Tensor:
        """Draw a class, then one of its images, with replacement.

        Args:
            rates_K: how often each class is drawn, shape (K,), >= 0, of any sum.
            num_samples: M.
            generator: source of randomness.

        Returns:
            Indices of images, int64, shape (M,).

        Example:
            >>> groups = ByClass(torch.tensor([7, 0, 7]))
            >>> groups.draw(torch.tensor([1.0, 0.0]), 3, torch.Generator())
            tensor([1, 1, 1])
        """
        uniforms_2M = torch.rand(2, num_samples, generator=generator, dtype=torch.float64)
        ends_K = rates_K.double().cumsum(0)
        # the last end is exactly 1 and above every uniform; a rate of 0 leaves no room between two ends
        classes_M = torch.searchsorted(ends_K / ends_K[-1], uniforms_2M[0], right=True)
        within_M = (uniforms_2M[1] * self.counts_K[classes_M]).long()
        return self.members_N[self.starts_K[classes_M] + within_M]
