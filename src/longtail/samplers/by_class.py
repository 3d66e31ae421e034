"""Samplers that draw a class first and then one of its images, with replacement.

They differ in the probability of a class:

| sampler | probability of class k | source |
|---|---|---|
| `ClassBalancedSampler` | 1 / K | Kang et al., ICLR 2020, https://arxiv.org/abs/1910.09217, Eq. 1 with q = 0 |
| `SquareRootSampler` | in proportion to n_k ** (1/2) | Mahajan et al., ECCV 2018, https://arxiv.org/abs/1805.00932 |
| `ProgressivelyBalancedSampler` | from n_k / N to 1 / K | Kang et al., ICLR 2020, Eq. 2 |
| `ReversedSampler` | in proportion to 1 / n_k | Zhou et al., BBN, CVPR 2020, https://arxiv.org/abs/1912.02413 |

Shapes: N = training images, M = images per epoch, K = classes with at least one image.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from longtail.samplers.base import Sampler


class ByClass:
    """Index of the training images by class. A class without images has no row and is never drawn.

    Args:
        targets_N: Label of each training image, int64, shape (N,).

    Attributes:
        members_N: Images in the order of their labels.
        counts_K: Images per class.
        starts_K: Position in `members_N` at which each class begins.

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
        """Draw classes, then one image of each, with replacement.

        Args:
            rates_K: Relative frequency of each class, shape (K,), >= 0. The rates need not sum to 1.
            num_samples: Number of draws, M.
            generator: Source of randomness.

        Returns:
            Indices of images, int64, shape (M,).

        Example:
            >>> groups = ByClass(torch.tensor([7, 0, 7]))
            >>> groups.draw(torch.tensor([1.0, 0.0]), 3, torch.Generator())
            tensor([1, 1, 1])
        """
        uniforms_2M = torch.rand(2, num_samples, generator=generator, dtype=torch.float64)
        ends_K = rates_K.double().cumsum(0)
        # the last end is exactly 1, above every uniform; a rate of 0 leaves no gap between two ends
        classes_M = torch.searchsorted(ends_K / ends_K[-1], uniforms_2M[0], right=True)
        within_M = (uniforms_2M[1] * self.counts_K[classes_M]).long()
        return self.members_N[self.starts_K[classes_M] + within_M]


class ClassRateSampler(Sampler):
    """Base class of samplers that draw each class with its own rate. Subclasses implement `rates`.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.
    """

    balances: ClassVar[bool] = True

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        *,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(targets, num_samples=num_samples, seed=seed, rank=rank, num_ranks=num_ranks)
        self.groups = ByClass(self.targets_N)

    @abstractmethod
    def rates(self, counts_K: Tensor, progress: float) -> Tensor:
        """Return the relative frequency of each class, shape (K,).

        Args:
            counts_K: Training images of each class that has any.
            progress: Completed share of the training, in [0, 1).
        """

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch, shape (M,)."""
        return self.groups.draw(self.rates(self.groups.counts_K, progress), self.num_samples, generator)


class ClassBalancedSampler(ClassRateSampler):
    """Class-balanced sampling: every class is equally likely, then every image of that class.

    Use it with losses that do not correct for the class counts. Together with a balanced loss it over-corrects.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ClassBalancedSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 1)
        0.5
    """

    def rates(self, counts_K: Tensor, progress: float) -> Tensor:
        """Return equal rates, shape (K,)."""
        return torch.ones_like(counts_K)


class SquareRootSampler(ClassRateSampler):
    """Square-root sampling: classes in proportion to the square root of their number of images.

    A compromise between instance-balanced and class-balanced sampling.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)  # 90 : 10 becomes 3 : 1
        >>> order = SquareRootSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 2)
        0.25
    """

    def rates(self, counts_K: Tensor, progress: float) -> Tensor:
        """Return the square roots of the counts, shape (K,)."""
        return counts_K**0.5


class ProgressivelyBalancedSampler(ClassRateSampler):
    """Interpolation from instance-balanced to class-balanced sampling over training, with replacement.

    The rates at epoch t of T are q_t = (1 - t/T) q_IB + (t/T) q_CB. Epochs count from 0, so the last one is not
    completely balanced; the authors' code (`facebookresearch/classifier-balancing`) reaches balance in the last epoch.
    In a custom training loop, call `set_epoch(epoch, progress=epoch / epochs)`.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = ProgressivelyBalancedSampler(targets, num_samples=10_000)
        >>> [round(float(targets[sampler.order(0, 0, progress)].float().mean()), 1) for progress in (0.0, 0.5, 0.99)]
        [0.1, 0.3, 0.5]
    """

    def rates(self, counts_K: Tensor, progress: float) -> Tensor:
        """Return the interpolated rates, shape (K,)."""
        return (1 - progress) * counts_K / len(self.targets_N) + progress / len(counts_K)


class ReversedSampler(ClassRateSampler):
    """Reversed sampling: classes in proportion to the inverse of their number of images.

    An image of a class that is 100 times rarer is drawn 10,000 times as often. Use the sampler for a part of a model
    (the second branch of BBN, the foregrounds of CMO), not alone.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ReversedSampler(targets, num_samples=10_000).order(seed=0, epoch=0)
        >>> round(float(targets[order].float().mean()), 1)
        0.9
    """

    def rates(self, counts_K: Tensor, progress: float) -> Tensor:
        """Return the inverse counts, shape (K,)."""
        return 1 / counts_K
