"""The projected form of SMART: covariances of many classes and channels, kept in a common subspace of few dimensions.

The covariance of class k is kept as V S_k V' + R_k. V (C x D, orthonormal) is common to all classes: the leading
directions in which features vary within classes, as seen before the transfer begins. R_k is diagonal and brings the
variances of the channels up to what they are (none down). The map is that of the dense form: Gamma compares channels,
so a map made of coordinates in V would be another map altogether. It is made for a few images at a time, and anew for
the gradient, since the maps of a whole batch would not fit either.
Shapes: B = batch, b = images that may be changed, P = positions, C = channels, K = classes, G = groups of images of one
class, D = dimensions of the subspace, n = images whose maps are made at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from longtail.errors import InputError
from longtail.transfer.forms import LARGEST_BATCH, Moments, feature_bytes, standardised
from longtail.transfer.maps import TransferMap
from longtail.transfer.statistics import RunningClassStatistics

SCALES = ("trace", "literal", "spectral")
SMALLEST = 8  # dimensions
MATRICES = 6  # C x C numbers held at once for each image whose map is being made


class ProjectedForm(nn.Module):
    """Keeps a D x D covariance for each class, in a subspace fixed when the transfer begins.

    Args:
        num_classes: K.
        channels: C.
        rule: by which covariances become a map; of scale "trace", "literal" or "spectral".
        dimension: D.
        at_once: n.
        eps: added to the variances.
        clamp: largest size of a standardised feature.
        options: of the statistics.

    Raises:
        InputError: if the rule is of another scale, or D is larger than C.

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
        **options: Any,
    ) -> None:
        super().__init__()
        if rule.scale not in SCALES:
            raise InputError(
                f"scale='{rule.scale}' needs the covariances of {num_classes} classes and {channels} channels in full; "
                "raise memory_budget_gb, say form='dense', or take scale='trace'"
            )
        if not 1 <= dimension <= channels:
            raise InputError(f"a subspace of {channels} channels has 1 to {channels} dimensions, not {dimension}")
        self.rule, self.at_once, self.eps, self.clamp = rule, at_once, eps, clamp
        self.running = RunningClassStatistics(num_classes, dimension, **options)
        self.by_channel = RunningClassStatistics(num_classes, channels, diagonal=True, **options)
        self.pooled = RunningClassStatistics(1, channels)
        self.register_buffer("basis_CD", torch.zeros(channels, dimension))
        self.is_fixed = False

    def get_extra_state(self) -> dict[str, Any]:
        """Whether the subspace is fixed."""
        return {"is_fixed": self.is_fixed}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
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
        """What classes are compared by, shape (K, D, D)."""
        return self.running.covariances_KCC

    def observe(self, rows_BPC: Tensor, targets_B: Tensor) -> None:
        """Learn from a batch in which directions features vary about the running means of their classes."""
        rows_BPC = rows_BPC.detach()
        self.by_channel.update(rows_BPC, targets_B)
        about_1NC = (rows_BPC - self.by_channel.means_KC[targets_B][:, None]).flatten(0, 1)[None]
        self.pooled.update(about_1NC, torch.zeros_like(targets_B[:1]))

    def reset(self) -> None:
        """Forget the images of the classes; the subspace stays."""
        self.running.reset()
        self.by_channel.reset()

    @torch.no_grad()
    def fix(self) -> None:
        """Choose the subspace: the leading directions of all that was observed."""
        vectors_CC = torch.linalg.eigh(self.pooled.covariances_KCC[0]).eigenvectors
        self.basis_CD.copy_(vectors_CC[:, -self.basis_CD.shape[1] :].flip(1))
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(self.basis_CD, src=0)  # another device may round another way
        self.is_fixed = True

    def update(self, rows_BPC: Tensor, targets_B: Tensor, detach: bool) -> Moments:
        """Merge a batch into the statistics; see `RunningClassStatistics.update`."""
        if not self.is_fixed:
            self.observe(rows_BPC, targets_B)
            self.fix()
            self.reset()  # this batch is about to be counted
        coordinates = self.running.update(rows_BPC @ self.basis_CD, targets_B, detach)
        channels = self.by_channel.update(rows_BPC, targets_B, detach)
        return Moments(channels.groups, channels.means_GC, channels.covariances_GCC, coordinates.covariances_GCC)

    def change(self, rows_bPC: Tensor, group_b: Tensor, moments: Moments, heads_G: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 6 and the weights of Eq. 11; see `DenseForm.change`."""
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
        standard_nPC = standardised(rows_nPC, means_nC, std_nC, self.clamp)
        omega_n = matrices_nCC.detach().sum(dim=(1, 2)) / std_nC.shape[1]
        return standard_nPC @ matrices_nCC + means_nC[:, None], omega_n

    def _matrices(self, tail_nDD: Tensor, heads_n: Tensor, variances_nC: Tensor, std_nC: Tensor) -> Tensor:
        """What `TransferMap` gives for these covariances, without forming them."""
        tail = LowRank.of(self.basis_CD, tail_nDD, variances_nC)
        head_variances_nC = self.by_channel.covariances_KCC[heads_n]
        head = LowRank.of(self.basis_CD, self.running.covariances_KCC[heads_n], head_variances_nC)
        source, target = self.rule.sides(tail, head)
        target_n = self.rule.sides(variances_nC, head_variances_nC)[1].sum(dim=1)
        units_n = source.unit_n * target.unit_n
        own_nCC = self.rule.emphasised(source.times(target), units_n)
        return self.rule.scaled(
            own_nCC, units_n, lambda matrices_nCC: tail.variance_after(matrices_nCC, std_nC), target_n
        )


@dataclass(frozen=True)
class LowRank:
    """Covariances unit * (V S V' + diagonal), never formed.

    Args:
        basis_CD: V.
        inside_nDD: S.
        rest_nC: the diagonal.
        unit_n: the mean variance, which keeps the numbers within their range.
    """

    basis_CD: Tensor
    inside_nDD: Tensor
    rest_nC: Tensor
    unit_n: Tensor

    @classmethod
    def of(cls, basis_CD: Tensor, inside_nDD: Tensor, variances_nC: Tensor) -> "LowRank":
        """Covariances from their part in the subspace and the variances of all channels."""
        rest_nC = (variances_nC - ((basis_CD @ inside_nDD) * basis_CD).sum(dim=2)).clamp(min=0)
        mean_n = variances_nC.mean(dim=1)
        unit_n = torch.where(mean_n > 0, mean_n, 1.0)
        return cls(basis_CD, inside_nDD / unit_n[:, None, None], rest_nC / unit_n[:, None], unit_n)

    def times(self, other: "LowRank") -> Tensor:
        """The matrix product with others of the same subspace, in units of both: (n, C, C)."""
        carried_nDC = other.inside_nDD @ self.basis_CD.T
        first_nDC = self.inside_nDD @ (carried_nDC + self.basis_CD.T * other.rest_nC[:, None])
        left_nCX = torch.cat([self.basis_CD.expand(len(first_nDC), -1, -1), self.rest_nC[..., None] * self.basis_CD], 2)
        product_nCC = left_nCX @ torch.cat([first_nDC, carried_nDC], dim=1)
        diagonal_nC = product_nCC.diagonal(dim1=1, dim2=2) + self.rest_nC * other.rest_nC
        return product_nCC.diagonal_scatter(diagonal_nC, dim1=1, dim2=2)

    def variance_after(self, matrices_nCC: Tensor, std_nC: Tensor) -> Tensor:
        """The total variance of standardised features that have gone through matrices, shape (n,)."""
        basis_nCD = self.basis_CD / std_nC[:, :, None]
        carried_nDC = basis_nCD.transpose(1, 2) @ matrices_nCC
        inside_n = (carried_nDC * (self.inside_nDD @ carried_nDC)).sum(dim=(1, 2))
        lengths_nC = torch.linalg.vector_norm(matrices_nCC, dim=2)
        rest_n = (self.rest_nC * (lengths_nC / std_nC).square()).sum(dim=1)
        after_n: Tensor = self.unit_n * (inside_n + rest_n)
        return after_n


def projected_sizes(num_classes: int, channels: int, budget_bytes: float) -> tuple[int, int]:
    """How many dimensions, and images at a time, fit into the memory, about; for 256 images of 7 x 7 positions a step.

    Raises:
        InputError: if not even a few dimensions fit.

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
            f"{num_classes} classes and {channels} channels need memory_budget_gb of at least {needed:.2g}, better "
            f"twice that, not {budget_bytes / 1e9:g}; or change features of an earlier stage, which has fewer channels"
        )
    return min(dimension, channels), at_once
