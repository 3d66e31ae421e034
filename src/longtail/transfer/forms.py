"""The dense form of SMART, with a full covariance per class, and the statistics that any form returns.

Shapes: B = batch, b = images that may be changed, P = positions, C = channels, K = classes, G = groups of images of one
class, D = dimension of the stored covariances (here, C).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longtail.transfer.maps import TransferMap, variances
from longtail.transfer.statistics import Groups, Merge, RunningClassStatistics

# assumptions of the memory estimates: images per step, positions of a feature map, and copies of the features
LARGEST_BATCH, POSITIONS, VERSIONS = 256, 49, 5


@dataclass(frozen=True)
class Moments:
    """Statistics of the classes of a batch, after the batch was merged into them.

    Args:
        groups: Images of the batch by class.
        means_GC: Mean of the class of each group.
        variances_GC: Variance of each channel in that class.
        covariances_GDD: Covariance of that class.
    """

    groups: Groups
    means_GC: Tensor
    variances_GC: Tensor
    covariances_GDD: Tensor

    def per_image(self, targets_B: Tensor) -> "Moments":
        """Return the same statistics with one group per image.

        Args:
            targets_B: Labels of the images.
        """
        place_B = self.groups.group_E
        groups = Groups(targets_B, torch.arange(len(targets_B), device=targets_B.device))
        return Moments(groups, self.means_GC[place_B], self.variances_GC[place_B], self.covariances_GDD[place_B])


class DenseForm(nn.Module):
    """Running statistics with a C x C covariance per class, and the transfer map made from them.

    Args:
        num_classes: Number of classes, K.
        channels: Number of channels, C.
        rule: Rule that turns covariances into a map.
        eps: Constant added to the variances.
        clamp: Largest absolute value of a standardized feature.
        merge: Way to merge batches, see `RunningClassStatistics`.
        momentum: Share of a batch in the statistics, see `RunningClassStatistics`.
        count_cap: Images after which a class forgets, see `RunningClassStatistics`.

    Example:
        >>> form = DenseForm(2, 3, TransferMap(), eps=1e-5, clamp=5.0)
        >>> moments = form.update(torch.randn(4, 9, 3), torch.tensor([0, 1, 0, 1]), detach=True)
        >>> changed, omega = form.change(torch.randn(1, 9, 3), torch.tensor([1]), moments, torch.tensor([0, 0]))
        >>> changed.shape, omega.shape
        (torch.Size([1, 9, 3]), torch.Size([1]))
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        rule: TransferMap,
        *,
        eps: float,
        clamp: float,
        merge: Merge = "exact",
        momentum: float | None = None,
        count_cap: int | None = None,
    ) -> None:
        super().__init__()
        self.rule, self.eps, self.clamp = rule, eps, clamp
        self.running = RunningClassStatistics(
            num_classes, channels, merge=merge, momentum=momentum, count_cap=count_cap
        )

    def __str__(self) -> str:
        shape = self.running.covariances_KCC.shape
        return f"full covariances of {shape[0]} classes and {shape[1]} channels ({shape.numel() * 4e-6:.3g} MB)"

    @property
    def seen(self) -> Tensor:
        """Images of each class since the last reset, shape (K,)."""
        return self.running.counts_K

    @property
    def covariances(self) -> Tensor:
        """Covariances by which classes are compared, shape (K, D, D)."""
        return self.running.covariances_KCC

    def observe(self, rows_BPC: Tensor, targets_B: Tensor) -> None:
        """Process features before the transfer starts. The dense form does not use them."""

    def reset(self) -> None:
        """Reset all statistics."""
        self.running.reset()

    def update(self, rows_BPC: Tensor, targets_B: Tensor, detach: bool) -> Moments:
        """Merge a batch into the statistics; see `RunningClassStatistics.update`."""
        merged = self.running.update(rows_BPC, targets_B, detach)
        covariances_GCC = merged.covariances_GCC
        return Moments(merged.groups, merged.means_GC, variances(covariances_GCC), covariances_GCC)

    def change(self, rows_bPC: Tensor, group_b: Tensor, moments: Moments, heads_G: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Eq. 6, and the weights of Eq. 11 without normalization.

        Args:
            rows_bPC: Features of some images.
            group_b: Group of each image in `moments`.
            moments: Statistics of the batch.
            heads_G: Head class of each group.

        Returns:
            Changed features (b, P, C), and the sum of the entries of the map divided by C, shape (b,), without a
            gradient.
        """
        std_GC = (moments.variances_GC + self.eps).sqrt()
        matrices_GCC = self.rule(moments.covariances_GDD, self.running.covariances_KCC[heads_G], std_GC)
        standard_bPC = standardized(rows_bPC, moments.means_GC[group_b], std_GC[group_b], self.clamp)
        omega_G = matrices_GCC.detach().sum(dim=(1, 2)) / std_GC.shape[1]
        return standard_bPC @ matrices_GCC[group_b] + moments.means_GC[group_b][:, None], omega_G[group_b]


def standardized(rows_bPC: Tensor, means_bC: Tensor, std_bC: Tensor, clamp: float) -> Tensor:
    """Express features in standard deviations from the mean of their class, limited to `clamp`."""
    return ((rows_bPC - means_bC[:, None]) / std_bC[:, None]).clamp(-clamp, clamp)


def feature_bytes(channels: int) -> int:
    """Estimate the memory of the copies of the features of a step in bytes, for 256 images of 7 x 7 positions.

    Example:
        >>> feature_bytes(2048)
        513802240
    """
    return 4 * VERSIONS * LARGEST_BATCH * POSITIONS * channels


def dense_bytes(num_classes: int, channels: int) -> int:
    """Estimate the memory of the dense form and of a step with it, in bytes.

    Example:
        >>> dense_bytes(100, 64), dense_bytes(8142, 2048)
        (42467328, 188653502464)
    """
    groups = min(num_classes, LARGEST_BATCH)
    matrices = num_classes + 2 * LARGEST_BATCH + 10 * groups
    return 4 * channels**2 * matrices + feature_bytes(channels)
