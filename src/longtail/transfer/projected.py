"""The projected form of SMART: covariances of many classes and channels, stored in a common subspace.

The covariance of class k is stored as V S_k V' + R_k. V (C x D, orthonormal) is common to all classes: the leading
directions of variation within classes before the transfer starts. R_k is diagonal and raises the channel variances to
their true values (it lowers none). The map is the same as in the dense form, since Gamma compares channels: a map in
coordinates of V would be a different map. The maps of a whole batch would not fit into memory either. They are computed
for a few images at a time and recomputed for the gradient.
Shapes: B = batch, b = images that may be changed, P = positions, C = channels, K = classes, G = groups of images of one
class, D = dimensions of the subspace, n = images whose maps are computed at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from longtail.errors import InputError
from longtail.transfer.forms import LARGEST_BATCH, Moments, feature_bytes, standardized
from longtail.transfer.maps import TransferMap
from longtail.transfer.statistics import Merge, RunningClassStatistics

SCALES = ("trace", "literal", "spectral")
SMALLEST = 8  # smallest subspace dimension
MATRICES = 6  # C x C matrices in memory for each image whose map is computed


class ProjectedForm(nn.Module):
    """Running statistics with a D x D covariance per class, in a subspace that is fixed when the transfer starts.

    Args:
        num_classes: Number of classes, K.
        channels: Number of channels, C.
        rule: Rule that turns covariances into a map, with scale "trace", "literal" or "spectral".
        dimension: Dimension of the subspace, D.
        at_once: Number of images whose maps are computed at once, n.
        eps: Constant added to the variances.
        clamp: Largest absolute value of a standardized feature.
        merge: Way to merge batches, see `RunningClassStatistics`.
        momentum: Share of a batch in the statistics, see `RunningClassStatistics`.
        count_cap: Images after which a class forgets, see `RunningClassStatistics`.

    Raises:
        InputError: If the rule has another scale, or D is larger than C.

    Example:
        >>> form = ProjectedForm(2, 3, TransferMap(), dimension=2, at_once=4, eps=1e-5, clamp=5.0)
        >>> form.observe(torch.randn(4, 9, 3), torch.tensor([0, 1, 0, 1]))
        >>> moments = form.update(torch.randn(4, 9, 3), torch.tensor([0, 1, 0, 1]), detach=True)
        >>> changed, omega = form.change(torch.randn(1, 9, 3), torch.tensor([1]), moments, torch.tensor([0, 0]))
        >>> changed.shape, omega.shape, moments.covariances_GDD.shape
        (torch.Size([1, 9, 3]), torch.Size([1]), torch.Size([2, 2, 2]))
    """

    basis_CD: Tensor

    def __init__(
        self,
        num_classes: int,
        channels: int,
        rule: TransferMap,
        *,
        dimension: int,
        at_once: int,
        eps: float,
        clamp: float,
        merge: Merge = "exact",
        momentum: float | None = None,
        count_cap: int | None = None,
    ) -> None:
        super().__init__()
        if rule.scale not in SCALES:
            raise InputError(
                f"`scale='{rule.scale}'` needs the full covariances of {num_classes} classes and {channels} channels. "
                "Raise `memory_budget_gb`, set form='dense', or use scale='trace'."
            )
        if not 1 <= dimension <= channels:
            raise InputError(f"`dimension` must be in [1, {channels}], the number of channels, got {dimension}")
        self.rule, self.at_once, self.eps, self.clamp = rule, at_once, eps, clamp
        self.running = RunningClassStatistics(
            num_classes, dimension, merge=merge, momentum=momentum, count_cap=count_cap
        )
        self.by_channel = RunningClassStatistics(
            num_classes, channels, merge=merge, momentum=momentum, count_cap=count_cap, diagonal=True
        )
        self.pooled = RunningClassStatistics(1, channels)
        self.register_buffer("basis_CD", torch.zeros(channels, dimension))
        self.is_fixed = False

    def get_extra_state(self) -> dict[str, Any]:
        """Return whether the subspace is fixed."""
        return {"is_fixed": self.is_fixed}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore whether the subspace is fixed."""
        self.is_fixed = state["is_fixed"]

    def __str__(self) -> str:
        (size, dimension, _), channels = self.running.covariances_KCC.shape, len(self.basis_CD)
        return (
            f"covariances of {size} classes and {channels} channels, in a subspace of {dimension} dimensions "
            f"({4e-6 * size * dimension**2:.3g} MB in place of {4e-6 * size * channels**2:.3g})"
        )

    @property
    def seen(self) -> Tensor:
        """Images of each class since the last reset, shape (K,)."""
        return self.running.counts_K

    @property
    def covariances(self) -> Tensor:
        """Covariances by which classes are compared, shape (K, D, D)."""
        return self.running.covariances_KCC

    def observe(self, rows_BPC: Tensor, targets_B: Tensor) -> None:
        """Update the directions in which features vary about the running means of their classes."""
        rows_BPC = rows_BPC.detach()
        self.by_channel.update(rows_BPC, targets_B)
        about_1NC = (rows_BPC - self.by_channel.means_KC[targets_B][:, None]).flatten(0, 1)[None]
        self.pooled.update(about_1NC, torch.zeros_like(targets_B[:1]))

    def reset(self) -> None:
        """Reset the statistics of the classes; the subspace is kept."""
        self.running.reset()
        self.by_channel.reset()

    @torch.no_grad()
    def fix(self) -> None:
        """Fix the subspace to the leading directions of all observed features."""
        vectors_CC = torch.linalg.eigh(self.pooled.covariances_KCC[0]).eigenvectors
        self.basis_CD.copy_(vectors_CC[:, -self.basis_CD.shape[1] :].flip(1))
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(self.basis_CD, src=0)  # ranks may round differently
        self.is_fixed = True

    def update(self, rows_BPC: Tensor, targets_B: Tensor, detach: bool) -> Moments:
        """Merge a batch into the statistics; see `RunningClassStatistics.update`."""
        if not self.is_fixed:
            self.observe(rows_BPC, targets_B)
            self.fix()
            self.reset()  # this batch is counted below
        coordinates = self.running.update(rows_BPC @ self.basis_CD, targets_B, detach)
        channels = self.by_channel.update(rows_BPC, targets_B, detach)
        return Moments(channels.groups, channels.means_GC, channels.covariances_GCC, coordinates.covariances_GCC)

    def change(self, rows_bPC: Tensor, group_b: Tensor, moments: Moments, heads_G: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Eq. 6 and the weights of Eq. 11, see `DenseForm.change`."""
        parts = [
            checkpoint(self._change, rows, group, moments, heads_G, use_reentrant=False, preserve_rng_state=False)
            for rows, group in zip(torch.split(rows_bPC, self.at_once), torch.split(group_b, self.at_once), strict=True)
        ]
        changed, omega = zip(*parts, strict=True)
        return torch.cat(changed), torch.cat(omega)

    def _change(self, rows_nPC: Tensor, group_n: Tensor, moments: Moments, heads_G: Tensor) -> tuple[Tensor, Tensor]:
        means_nC, variances_nC = moments.means_GC[group_n], moments.variances_GC[group_n]
        std_nC, heads_n = (variances_nC + self.eps).sqrt(), heads_G[group_n]
        matrices_nCC = self._matrices(moments.covariances_GDD[group_n], heads_n, variances_nC, std_nC)
        standard_nPC = standardized(rows_nPC, means_nC, std_nC, self.clamp)
        omega_n = matrices_nCC.detach().sum(dim=(1, 2)) / std_nC.shape[1]
        return standard_nPC @ matrices_nCC + means_nC[:, None], omega_n

    def _matrices(self, tail_nDD: Tensor, heads_n: Tensor, variances_nC: Tensor, std_nC: Tensor) -> Tensor:
        """Compute the result of `TransferMap` without forming the covariances."""
        tail = LowRank.of(self.basis_CD, tail_nDD, variances_nC)
        head_variances_nC = self.by_channel.covariances_KCC[heads_n]
        head = LowRank.of(self.basis_CD, self.running.covariances_KCC[heads_n], head_variances_nC)
        source, target = self.rule.sides(tail, head)
        target_n = self.rule.sides(variances_nC, head_variances_nC)[1].sum(dim=1)
        units_n = source.unit_n * target.unit_n
        own_nCC = self.rule.emphasized(source.times(target), units_n)
        return self.rule.scaled(
            own_nCC, units_n, lambda matrices_nCC: tail.variance_after(matrices_nCC, std_nC), target_n
        )


@dataclass(frozen=True)
class LowRank:
    """Factors of covariances unit * (V S V' + diagonal), which are never formed.

    Args:
        basis_CD: Basis of the subspace, V.
        inside_nDD: Covariances in the subspace, S.
        rest_nC: Diagonal remainders.
        unit_n: Mean variances, which keep the factors within the floating-point range.
    """

    basis_CD: Tensor
    inside_nDD: Tensor
    rest_nC: Tensor
    unit_n: Tensor

    @classmethod
    def of(cls, basis_CD: Tensor, inside_nDD: Tensor, variances_nC: Tensor) -> "LowRank":
        """Build the factors from the covariances in the subspace and the variances of all channels."""
        rest_nC = (variances_nC - ((basis_CD @ inside_nDD) * basis_CD).sum(dim=2)).clamp(min=0)
        mean_n = variances_nC.mean(dim=1)
        unit_n = torch.where(mean_n > 0, mean_n, 1.0)
        return cls(basis_CD, inside_nDD / unit_n[:, None, None], rest_nC / unit_n[:, None], unit_n)

    def times(self, other: "LowRank") -> Tensor:
        """Compute the matrix product with covariances of the same subspace, in units of both: (n, C, C)."""
        carried_nDC = other.inside_nDD @ self.basis_CD.T
        first_nDC = self.inside_nDD @ (carried_nDC + self.basis_CD.T * other.rest_nC[:, None])
        left_nCX = torch.cat([self.basis_CD.expand(len(first_nDC), -1, -1), self.rest_nC[..., None] * self.basis_CD], 2)
        product_nCC = left_nCX @ torch.cat([first_nDC, carried_nDC], dim=1)
        diagonal_nC = product_nCC.diagonal(dim1=1, dim2=2) + self.rest_nC * other.rest_nC
        return product_nCC.diagonal_scatter(diagonal_nC, dim1=1, dim2=2)

    def variance_after(self, matrices_nCC: Tensor, std_nC: Tensor) -> Tensor:
        """Compute the total variance of standardized features after matrices, shape (n,)."""
        basis_nCD = self.basis_CD / std_nC[:, :, None]
        carried_nDC = basis_nCD.transpose(1, 2) @ matrices_nCC
        inside_n = (carried_nDC * (self.inside_nDD @ carried_nDC)).sum(dim=(1, 2))
        lengths_nC = torch.linalg.vector_norm(matrices_nCC, dim=2)
        rest_n = (self.rest_nC * (lengths_nC / std_nC).square()).sum(dim=1)
        after_n: Tensor = self.unit_n * (inside_n + rest_n)
        return after_n


def projected_sizes(num_classes: int, channels: int, budget_bytes: float) -> tuple[int, int]:
    """Estimate the subspace dimension and the images at a time that fit into memory.

    The estimate assumes 256 images of 7 x 7 positions per step.

    Args:
        num_classes: Number of classes.
        channels: Number of channels.
        budget_bytes: Available memory in bytes.

    Raises:
        InputError: If not even the smallest subspace fits.

    Example:
        >>> projected_sizes(8142, 2048, 2e9)
        (144, 4)
    """
    step_bytes = budget_bytes / 4
    at_once = max(1, min(LARGEST_BATCH, int(step_bytes / (4 * MATRICES * channels**2))))
    fixed = feature_bytes(channels) + 4 * (2 * num_classes * channels + (MATRICES * at_once + 4) * channels**2)
    per_square = 4 * (num_classes + 8 * LARGEST_BATCH)
    dimension = int((max(0.0, budget_bytes - fixed) / per_square) ** 0.5) // SMALLEST * SMALLEST
    if dimension < SMALLEST:
        needed = (fixed + per_square * SMALLEST**2) / 1e9
        raise InputError(
            f"`memory_budget_gb` must be at least {needed:.2g} (better twice that) for {num_classes} classes and "
            f"{channels} channels, got {budget_bytes / 1e9:g}. Or transfer at an earlier stage with fewer channels."
        )
    return min(dimension, channels), at_once
