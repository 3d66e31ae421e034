"""The transfer map of SMART: from the covariances of a tail and a head class to a matrix for tail features.

A feature f of the tail class t becomes z A + mean_t, where z = (f - mean_t) / std_t per channel (Eq. 6). A is computed
from the covariances of t and of a head class h: S = Cov_t Cov_h, Gamma = softmax over each row of tau S (Eq. 4), and
Cov_th = Gamma * S (Eq. 5). Taken literally, A = Cov_th has the units of feature^4 where those of a feature are needed:
features of small variance vanish and those of large variance explode. By default, A is therefore Cov_th times a factor
that gives the changed features the total variance of the head class.
Shapes: G = pairs of a tail and a head class, C = channels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from longtail.errors import InputError, unknown_name
from longtail.ranges import check_number

T = TypeVar("T")
Scale = Literal["trace", "literal", "spectral", "correlation", "optimal-transport"]
Covariance = Literal["both", "head", "tail"]
Temperature = Literal["multiply", "divide"]
Normalization = Literal["row-max", "none"]
Negative = Literal["keep", "relu"]


TINY = 1e-30
POWER_STEPS = 30


@dataclass(frozen=True)
class TransferMap:
    """Rule that computes the matrices A.

    Args:
        scale: Scale of the map, see `SemanticTransfer`.
        covariance: Covariances of which the map is made, see `SemanticTransfer`.
        tau: Sharpness of the softmax, see `SemanticTransfer`.
        temperature: Whether tau multiplies or divides, see `SemanticTransfer`.
        normalization: Normalization of the products before tau, see `SemanticTransfer`.
        negative: Treatment of negative products, see `SemanticTransfer`.
        shrinkage: Shrinkage of the tail covariance, see `SemanticTransfer`.

    Raises:
        InputError: If an option is unknown or out of range.

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
        check_number("tau", self.tau, 'positive with `temperature="divide"`', at_least=0)
        check_number("shrinkage", self.shrinkage, at_least=0, at_most=1)
        if self.tau == 0 and self.temperature == "divide":
            raise InputError(f'`tau` must be > 0 with `temperature="divide"`, got {self.tau}')

    def __call__(self, tail_GCC: Tensor, head_GCC: Tensor, std_GC: Tensor) -> Tensor:
        """Compute the matrices A of pairs of classes.

        Args:
            tail_GCC: Covariances of the tail classes.
            head_GCC: Covariances of the head classes.
            std_GC: Positive standard deviations of the tail classes, by which the features are divided.

        Returns:
            Matrices of shape (G, C, C).
        """
        source_GCC, target_GCC = self.sides(tail_GCC, head_GCC)
        if self.scale == "optimal-transport":
            return std_GC[:, :, None] * monge_map(tail_GCC, target_GCC, self.shrinkage).transpose(1, 2)
        if self.scale == "correlation":
            products_GCC = correlation(source_GCC) @ correlation(target_GCC)
            own_GCC = self.emphasized(products_GCC, torch.ones_like(std_GC[:, 0]))
            return own_GCC * variances(target_GCC).sqrt()[:, None, :]
        source_unit_G, target_unit_G = unit(source_GCC), unit(target_GCC)
        products_GCC = (source_GCC / source_unit_G[:, None, None]) @ (target_GCC / target_unit_G[:, None, None])

        def variance_after(matrices_GCC: Tensor) -> Tensor:
            correlations_GCC = tail_GCC / (std_GC[:, :, None] * std_GC[:, None, :])
            return (matrices_GCC * (correlations_GCC @ matrices_GCC)).sum(dim=(1, 2))  # trace of A' R A

        units_G = source_unit_G * target_unit_G
        return self.scaled(
            self.emphasized(products_GCC, units_G), units_G, variance_after, variances(target_GCC).sum(dim=1)
        )

    def sides(self, tail: T, head: T) -> tuple[T, T]:
        """Return the two factors of the product S: of the tail and the head class, or both of one class."""
        return head if self.covariance == "head" else tail, tail if self.covariance == "tail" else head

    def emphasized(self, products_GCC: Tensor, units_G: Tensor) -> Tensor:
        """Compute Gamma * S, which emphasizes the largest products of a row (Eqs. 4 and 5), in units of `units_G`.

        Args:
            products_GCC: Products S, in the same units.
            units_G: Unit of the products. It keeps small and large covariances within the floating-point range.
        """
        if self.negative == "relu":
            products_GCC = products_GCC.clamp(min=0)
        sharpness: Tensor = units_G[:, None, None]
        if self.normalization == "row-max":  # makes tau independent of the layer and the epoch
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
        """Scale matrices as set by `scale`.

        Args:
            matrices_GCC: Products Gamma * S, in units of `units_G`.
            units_G: Unit of the products.
            variance_after: Function that returns the total variance (G,) of the tail classes after matrices (G, C, C).
            target_G: Total variance of the head classes.
        """
        if self.scale == "trace":
            factor_G = (target_G / variance_after(matrices_GCC).clamp(min=TINY)).sqrt()
        elif self.scale == "spectral":
            factor_G = 1 / spectral_norm(matrices_GCC).clamp(min=TINY)
        else:
            factor_G = units_G
        return matrices_GCC * factor_G[:, None, None]


def variances(covariances_GCC: Tensor) -> Tensor:
    """Return the variance of each channel, shape (G, C)."""
    return covariances_GCC.diagonal(dim1=1, dim2=2)


def unit(covariances_GCC: Tensor) -> Tensor:
    """Return the mean variance of each matrix, shape (G,); 1 if it is zero."""
    mean_G = variances(covariances_GCC).mean(dim=1)
    return torch.where(mean_G > 0, mean_G, 1.0)


def correlation(covariances_GCC: Tensor) -> Tensor:
    """Convert covariances to correlations; the row and column of a channel without variance are 0.

    Example:
        >>> correlation(torch.tensor([[[4.0, 1.0], [1.0, 1.0]]]))
        tensor([[[1.0000, 0.5000],
                 [0.5000, 1.0000]]])
    """
    scale_GC = variances(covariances_GCC).clamp(min=TINY).rsqrt()
    scale_GC = torch.where(variances(covariances_GCC) > 0, scale_GC, 0.0)
    return covariances_GCC * scale_GC[:, :, None] * scale_GC[:, None, :]


def spectral_norm(matrices_GCC: Tensor) -> Tensor:
    """Compute the largest singular values, shape (G,), by power iteration without device synchronization.

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
    """Compute the symmetric T with T Cov_t T = Cov_h, the solution of Eq. 24 of SMART that moves features least.

    In the notation of Eq. 24 it is Cov_h^(1/2) U Cov_t^(-1/2) with the U that makes it symmetric. The eigenvalue
    decomposition synchronizes with the device.

    Args:
        tail_GCC: Covariances of the tail classes.
        head_GCC: Covariances of the head classes.
        shrinkage: Share of each tail covariance that is replaced by its mean variance on the diagonal. A covariance of
            few images has no inverse.

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
    """Return the symmetric matrices with the given eigenvalues and eigenvectors."""
    return (vectors_GCC * values_GC[:, None]) @ vectors_GCC.transpose(1, 2)
