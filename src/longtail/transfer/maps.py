"""SMART's map: from the covariances of a tail and a head class to a matrix for the features of the tail class.

A feature f of the tail class t becomes z A + mean_t, where z = (f - mean_t) / std_t, channel by channel (Eq. 6), and A
is made of the covariances of t and of a head class h: S = Cov_t Cov_h, Gamma = softmax over each row of tau S (Eq. 4),
Cov_th = Gamma * S (Eq. 5). Taken literally A = Cov_th has the units of feature^4 where those of a feature are needed:
features of small variance vanish and those of large variance explode. So by default A is Cov_th times a number that
gives the changed features the total variance of the head class.
Shapes: G = pairs of a tail and a head class, C = channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict, TypeVar, get_args

import torch
from torch import Tensor

from longtail.errors import InputError, unknown_name

T = TypeVar("T")
Scale = Literal["trace", "literal", "spectral", "correlation", "optimal-transport"]
Covariance = Literal["both", "head", "tail"]
Temperature = Literal["multiply", "divide"]
Normalization = Literal["row-max", "none"]
Negative = Literal["keep", "relu"]


class MapOptions(TypedDict, total=False):
    """The options of the map; see `SemanticTransfer`."""

    scale: Scale
    covariance: Covariance
    tau: float
    temperature: Temperature
    normalization: Normalization
    negative: Negative
    shrinkage: float


TINY = 1e-30
POWER_STEPS = 30


@dataclass(frozen=True)
class TransferMap:
    """The rule by which A is made. For the options see `SemanticTransfer`.

    Raises:
        InputError: if an option is unknown or out of range.

    Example:
        >>> tail, head = torch.eye(2)[None], torch.diag(torch.tensor([9.0, 1.0]))[None]
        >>> TransferMap(scale="optimal-transport", shrinkage=0.0)(tail, head, torch.ones(1, 2))
        tensor([[[3., 0.],
                 [0., 1.]]])
    """

    scale: Scale = "trace"
    covariance: Covariance = "both"
    tau: float = 10.0
    temperature: Temperature = "multiply"
    normalization: Normalization = "row-max"
    negative: Negative = "keep"
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("scale of the map", self.scale, Scale),
            ("choice of covariance", self.covariance, Covariance),
            ("use of the temperature", self.temperature, Temperature),
            ("normalization of the products", self.normalization, Normalization),
            ("treatment of negative products", self.negative, Negative),
        ):
            if value not in get_args(known):
                raise unknown_name(kind, str(value), get_args(known))
        if not (self.tau >= 0 and (self.tau > 0 or self.temperature == "multiply")):
            raise InputError(f"tau must be >= 0, and positive where it divides, not {self.tau}")
        if not 0 <= self.shrinkage <= 1:
            raise InputError(f"shrinkage is a share, from 0 to 1, not {self.shrinkage}")

    def __call__(self, tail_GCC: Tensor, head_GCC: Tensor, std_GC: Tensor) -> Tensor:
        """The matrices A of pairs of classes.

        Args:
            tail_GCC: covariances of the tail classes.
            head_GCC: covariances of the head classes.
            std_GC: standard deviations of the tail classes, positive: what the features will have been divided by.

        Returns:
            Shape (G, C, C).
        """
        source_GCC, target_GCC = self.sides(tail_GCC, head_GCC)
        if self.scale == "optimal-transport":
            return std_GC[:, :, None] * monge_map(tail_GCC, target_GCC, self.shrinkage).transpose(1, 2)
        if self.scale == "correlation":
            products_GCC = correlation(source_GCC) @ correlation(target_GCC)
            own_GCC = self.emphasised(products_GCC, torch.ones_like(std_GC[:, 0]))
            return own_GCC * variances(target_GCC).sqrt()[:, None, :]
        source_unit_G, target_unit_G = unit(source_GCC), unit(target_GCC)
        products_GCC = (source_GCC / source_unit_G[:, None, None]) @ (target_GCC / target_unit_G[:, None, None])

        def variance_after(matrices_GCC: Tensor) -> Tensor:
            correlations_GCC = tail_GCC / (std_GC[:, :, None] * std_GC[:, None, :])
            return (matrices_GCC * (correlations_GCC @ matrices_GCC)).sum(dim=(1, 2))  # the trace of A' R A

        units_G = source_unit_G * target_unit_G
        return self.scaled(
            self.emphasised(products_GCC, units_G), units_G, variance_after, variances(target_GCC).sum(dim=1)
        )

    def sides(self, tail: T, head: T) -> tuple[T, T]:
        """The two factors of the product S: of the tail and the head class, or both of one of them."""
        return head if self.covariance == "head" else tail, tail if self.covariance == "tail" else head

    def emphasised(self, products_GCC: Tensor, units_G: Tensor) -> Tensor:
        """Gamma * S, the products that stand out in their row (Eqs. 4 and 5), in units of `units_G`.

        Args:
            products_GCC: S, in the same units.
            units_G: what one unit is; it keeps small and large covariances within the range of numbers.
        """
        if self.negative == "relu":
            products_GCC = products_GCC.clamp(min=0)
        sharpness: Tensor = units_G[:, None, None]
        if self.normalization == "row-max":  # else tau would mean something else in every layer and epoch
            sizes_GC1 = torch.linalg.vector_norm(products_GCC, math.inf, dim=2, keepdim=True)
            sharpness = 1 / sizes_GC1.clamp(min=TINY)
        sharpness = sharpness * (self.tau if self.temperature == "multiply" else 1 / self.tau)
        return (sharpness * products_GCC).softmax(dim=2) * products_GCC

    def scaled(
        self,
        matrices_GCC: Tensor,
        units_G: Tensor,
        variance_after: Callable[[Tensor], Tensor],
        target_G: Tensor,
    ) -> Tensor:
        """Matrices of the size that the rule asks for.

        Args:
            matrices_GCC: Gamma * S, in units of `units_G`.
            units_G: what one unit is.
            variance_after: the total variance of a tail class once it has gone through matrices (G, C, C): (G,).
            target_G: the total variance of the head class.
        """
        if self.scale == "trace":
            factor_G = (target_G / variance_after(matrices_GCC).clamp(min=TINY)).sqrt()
        elif self.scale == "spectral":
            factor_G = 1 / spectral_norm(matrices_GCC).clamp(min=TINY)
        else:
            factor_G = units_G
        return matrices_GCC * factor_G[:, None, None]


def variances(covariances_GCC: Tensor) -> Tensor:
    """The variance of each channel, shape (G, C)."""
    return covariances_GCC.diagonal(dim1=1, dim2=2)


def unit(covariances_GCC: Tensor) -> Tensor:
    """The mean variance of each matrix, shape (G,); 1 where there is none."""
    mean_G = variances(covariances_GCC).mean(dim=1)
    return torch.where(mean_G > 0, mean_G, 1.0)


def correlation(covariances_GCC: Tensor) -> Tensor:
    """Correlation matrices; the row and column of a channel without variance are 0.

    Example:
        >>> correlation(torch.tensor([[[4.0, 1.0], [1.0, 1.0]]]))
        tensor([[[1.0000, 0.5000],
                 [0.5000, 1.0000]]])
    """
    scale_GC = variances(covariances_GCC).clamp(min=TINY).rsqrt()
    scale_GC = torch.where(variances(covariances_GCC) > 0, scale_GC, 0.0)
    return covariances_GCC * scale_GC[:, :, None] * scale_GC[:, None, :]


def spectral_norm(matrices_GCC: Tensor) -> Tensor:
    """Largest singular values, shape (G,), by power iteration from a fixed start, which waits for no device.

    Example:
        >>> spectral_norm(torch.tensor([[[3.0, 0.0], [4.0, 5.0]]]))
        tensor([6.7082])
    """
    v_GC1 = matrices_GCC.new_ones(matrices_GCC.shape[:2]).unsqueeze(2)
    for _ in range(POWER_STEPS):
        v_GC1 = matrices_GCC.transpose(1, 2) @ (matrices_GCC @ v_GC1)
        v_GC1 = v_GC1 / v_GC1.norm(dim=1, keepdim=True).clamp(min=TINY)
    norm_G: Tensor = (matrices_GCC @ v_GC1).norm(dim=(1, 2))
    return norm_G


def monge_map(tail_GCC: Tensor, head_GCC: Tensor, shrinkage: float) -> Tensor:
    """The symmetric T with T Cov_t T = Cov_h: of the solutions of SMART's Eq. 24, that which moves features least.

    In Eq. 24's terms it is Cov_h^(1/2) U Cov_t^(-1/2) with the U that makes it symmetric. The eigenvalues wait for the
    device.

    Args:
        tail_GCC: covariances of the tail classes.
        head_GCC: covariances of the head classes.
        shrinkage: share of each tail covariance that is replaced by its mean variance on the diagonal, since few images
            leave it without an inverse.

    Example:
        >>> monge_map(torch.diag(torch.tensor([1.0, 4.0]))[None], torch.diag(torch.tensor([4.0, 1.0]))[None], 0.0)
        tensor([[[2.0000, 0.0000],
                 [0.0000, 0.5000]]])
    """
    mean_G11 = variances(tail_GCC).mean(dim=1)[:, None, None]
    identity_CC = torch.eye(tail_GCC.shape[1], dtype=tail_GCC.dtype, device=tail_GCC.device)
    shrunk_GCC = (1 - shrinkage) * tail_GCC + shrinkage * mean_G11 * identity_CC
    values_GC, vectors_GCC = torch.linalg.eigh(shrunk_GCC)
    values_GC = values_GC.maximum((1e-6 * values_GC[:, -1:]).clamp(min=TINY))
    root_GCC = _assembled(values_GC.sqrt(), vectors_GCC)
    inverse_GCC = _assembled(values_GC.rsqrt(), vectors_GCC)
    middle_GC, middle_GCC = torch.linalg.eigh(root_GCC @ head_GCC @ root_GCC)
    return inverse_GCC @ _assembled(middle_GC.clamp(min=0).sqrt(), middle_GCC) @ inverse_GCC


def _assembled(values_GC: Tensor, vectors_GCC: Tensor) -> Tensor:
    """The symmetric matrices with these eigenvalues and eigenvectors."""
    return (vectors_GCC * values_GC[:, None]) @ vectors_GCC.transpose(1, 2)
