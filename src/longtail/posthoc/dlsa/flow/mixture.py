"""Base density of a flow filter: equally likely Gaussians of unit covariance around fixed centres.

After Izmailov et al., "Semi-Supervised Learning with Normalizing Flows", ICML 2020, https://arxiv.org/abs/1912.13025.
The authors' code of DLSA (`silicx/DLSA`) forms all differences u - mu_k, an array of B x K x D numbers (4.2 GB at
B = 1024, K = 500, D = 2048). Here -|u - mu_k|^2 / 2 is taken apart into u mu_k - |mu_k|^2 / 2, a matrix product, and
-|u|^2 / 2, which all clusters share: so it stands outside the logarithm of the sum, and the posterior, which does not
depend on it, keeps its digits however long u is.
Shapes: B = batch, K = clusters, D = dimensions.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail._random import generator
from longtail.errors import InputError

Sigma = float | Literal["auto"]


def centre_spread(dim: int, sigma: Sigma) -> float:
    """Standard deviation of a centre in each dimension.

    Args:
        dim: D.
        sigma: the standard deviation itself; "auto" is sqrt(3 / 2D) (supplement, Sec. 3), by which the mean squared
            distance of two centres is 3 in any number of dimensions.

    Raises:
        InputError: if it is not positive.

    Example:
        >>> round(centre_spread(1024, "auto"), 4), centre_spread(1024, 0.05)
        (0.0383, 0.05)
    """
    if isinstance(sigma, str):
        if sigma != "auto":
            raise InputError(f"sigma must be a number or 'auto' (sqrt(3 / 2D)), not {sigma!r}")
        return math.sqrt(1.5 / dim)
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma, the spread of the centres, must be positive (0.05 in the paper), not {sigma}")
    return sigma


class GaussianMixture(nn.Module):
    """A mixture of Gaussians N(mu_k, I) whose centres are drawn once from N(0, sigma^2 I), and kept.

    Args:
        dim: D.
        clusters: K.
        sigma: spread of the centres in each dimension, or "auto" for sqrt(3 / 2D).
        seed: of the centres.

    Raises:
        InputError: if `dim`, `clusters` or `sigma` is not positive.

    Example:
        >>> mixture = GaussianMixture(2, 1)
        >>> _ = mixture.centers_KD.zero_()
        >>> log_density, log_posterior = mixture(torch.zeros(1, 2))
        >>> log_density, log_posterior  # -log 2 pi: one Gaussian at the origin
        (tensor([-1.8379]), tensor([[0.]]))
    """

    centers_KD: Tensor

    def __init__(self, dim: int, clusters: int = 500, *, sigma: Sigma = 0.05, seed: int = 0) -> None:
        super().__init__()
        if dim < 1 or clusters < 1:
            raise InputError(f"a mixture needs at least one dimension and one cluster, not {dim} and {clusters}")
        centers_KD = torch.randn(clusters, dim, generator=generator("centres", seed))
        self.register_buffer("centers_KD", centre_spread(dim, sigma) * centers_KD)

    def forward(self, latent_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Density and clusters of latents, in their own precision, float32 at least.

        Args:
            latent_BD: shape (B, D).

        Returns:
            log p(u), shape (B,), and log p(k | u), shape (B, K).
        """
        with torch.autocast(latent_BD.device.type, enabled=False):
            wide_BD = latent_BD.to(torch.promote_types(latent_BD.dtype, self.centers_KD.dtype))
            centers_KD = self.centers_KD.to(wide_BD.dtype)
            scores_BK = F.linear(wide_BD, centers_KD, -0.5 * centers_KD.square().sum(dim=1))
            shared_B = -0.5 * wide_BD.square().sum(dim=1)
            total_B = scores_BK.logsumexp(dim=1)
            constant = -0.5 * wide_BD.shape[1] * math.log(2 * math.pi) - math.log(len(centers_KD))
            return constant + shared_B + total_B, scores_BK - total_B.unsqueeze(1)

    def log_density(self, latent_BD: Tensor) -> Tensor:
        """The log-density log p(u), shape (B,)."""
        log_density_B: Tensor = self(latent_BD)[0]
        return log_density_B

    def log_posterior(self, latent_BD: Tensor) -> Tensor:
        """The log-posterior log p(k | u), shape (B, K): its exponentials sum to one over the clusters."""
        log_posterior_BK: Tensor = self(latent_BD)[1]
        return log_posterior_BK
