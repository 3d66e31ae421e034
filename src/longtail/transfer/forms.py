"""The dense form of SMART: a full covariance for each class, and what any form gives.

Shapes: B = batch, b = images that may be changed, P = positions, C = channels, K = classes, G = groups of images of one
class, D = dimension in which covariances are kept (here, C).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from longtail.transfer.maps import TransferMap, variances
from longtail.transfer.statistics import Groups, RunningClassStatistics

# for which memory is reckoned: images of a step, positions of a feature map, and how often features are held at once
LARGEST_BATCH, POSITIONS, VERSIONS = 256, 49, 5


@dataclass(frozen=True)
class Moments:
    """Statistics of the classes of a batch, after the batch was merged into them.

    Args:
        groups: the images of the batch by class.
        means_GC: mean of each group's class.
        variances_GC: variance of each channel in that class.
        covariances_GDD: its covariance.
    """

    groups: Groups
    means_GC: Tensor
    variances_GC: Tensor
    covariances_GDD: Tensor

    def per_image(self, targets_B: Tensor) -> "Moments":
        """The same with a group for each image."""
        place_B = self.groups.group_E
        groups = Groups(targets_B, torch.arange(len(targets_B), device=targets_B.device))
        return Moments(groups, self.means_GC[place_B], self.variances_GC[place_B], self.covariances_GDD[place_B])


class DenseForm(nn.Module):
    """Keeps a C x C covariance for each class.

    Args:
        num_classes: K.
        channels: C.
        rule: by which covariances become a map.
        eps: added to the variances.
        clamp: largest size of a standardised feature.
        options: of the statistics.

    Example:
        >>> form = DenseForm(2, 3, TransferMap(), eps=1e-5, clamp=5.0)
        >>> moments = form.update(torch.randn(4, 9, 3), torch.tensor([0, 1, 0, 1]), detach=True)
        >>> changed, omega = form.change(torch.randn(1, 9, 3), torch.tensor([1]), moments, torch.tensor([0, 0]))
        >>> changed.shape, omega.shape
        (torch.Size([1, 9, 3]), torch.Size([1]))
    """

    def __init__(
        self, num_classes: int, channels: int, rule: TransferMap, *, eps: float, clamp: float, **options: Any
    ) -> None:
        super().__init__()
        self.rule, self.eps, self.clamp = rule, eps, clamp
        self.running = RunningClassStatistics(num_classes, channels, **options)

    def __str__(self) -> str:
        shape = self.running.covariances_KCC.shape
        return f"covariances of {shape[0]} classes and {shape[1]} channels, in full ({shape.numel() * 4e-6:.3g} MB)"

    @property
    def seen(self) -> Tensor:
        """Images of each class since the last reset, shape (K,)."""
        return self.running.counts_K

    @property
    def covariances(self) -> Tensor:
        """What classes are compared by, shape (K, D, D)."""
        return self.running.covariances_KCC

    def observe(self, rows_BPC: Tensor, targets_B: Tensor) -> None:
        """See features before the transfer begins; nothing is learnt from them here."""

    def reset(self) -> None:
        """Forget all images."""
        self.running.reset()

    def update(self, rows_BPC: Tensor, targets_B: Tensor, detach: bool) -> Moments:
        """Merge a batch into the statistics; see `RunningClassStatistics.update`."""
        merged = self.running.update(rows_BPC, targets_B, detach)
        covariances_GCC = merged.covariances_GCC
        return Moments(merged.groups, merged.means_GC, variances(covariances_GCC), covariances_GCC)

    def change(self, rows_bPC: Tensor, group_b: Tensor, moments: Moments, heads_G: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6, and the weights of Eq. 11 as they are.

        Args:
            rows_bPC: features of some images.
            group_b: their groups in `moments`.
            moments: of the batch.
            heads_G: a head class for each group.

        Returns:
            Changed features (b, P, C), and the sum of the map's entries over C, shape (b,), without a gradient.
        """
        std_GC = (moments.variances_GC + self.eps).sqrt()
        matrices_GCC = self.rule(moments.covariances_GDD, self.running.covariances_KCC[heads_G], std_GC)
        standard_bPC = standardised(rows_bPC, moments.means_GC[group_b], std_GC[group_b], self.clamp)
        omega_G = matrices_GCC.detach().sum(dim=(1, 2)) / std_GC.shape[1]
        return standard_bPC @ matrices_GCC[group_b] + moments.means_GC[group_b][:, None], omega_G[group_b]


def standardised(rows_bPC: Tensor, means_bC: Tensor, std_bC: Tensor, clamp: float) -> Tensor:
    """Features in standard deviations from their class's mean, at most `clamp`."""
    return ((rows_bPC - means_bC[:, None]) / std_bC[:, None]).clamp(-clamp, clamp)


def feature_bytes(channels: int) -> int:
    """Memory of the features of a step in their few versions, for 256 images of 7 x 7 positions, about.

    Example:
        >>> feature_bytes(2048)
        513802240
    """
    return 4 * VERSIONS * LARGEST_BATCH * POSITIONS * channels


def dense_bytes(num_classes: int, channels: int) -> int:
    """Memory of the dense form and of a step with it, in bytes, about.

    Example:
        >>> dense_bytes(100, 64), dense_bytes(8142, 2048)
        (42467328, 188653502464)
    """
    groups = min(num_classes, LARGEST_BATCH)
    matrices = num_classes + 2 * LARGEST_BATCH + 10 * groups
    return 4 * channels**2 * matrices + feature_bytes(channels)
