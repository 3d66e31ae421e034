"""Layers and base density of a flow filter: masked autoregressive blocks, batch normalization, Gaussian mixture.

The blocks are written here because no library has all parts that DLSA needs: zuko has no batch normalization (its
issue 46), nflows is unmaintained since 2020, and FrEIA has coupling blocks only.

Shapes: B = batch, D = dimensions, H = units of the previous layer, O = units of a layer, K = clusters.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail._random import generator
from longtail.errors import InputError

Sigma = float | Literal["auto"]


class MaskedLinear(nn.Module):
    """A linear layer in which a unit is connected only to units of the same or a lower degree.

    Args:
        degrees_in_H: Degree of each unit of the previous layer, shape (H,).
        degrees_out_O: Degree of each unit of this layer, shape (O,).
        source: Generator of the initial weights, uniform in +-1 / sqrt(H) as in `torch.nn.Linear`.

    Example:
        >>> layer = MaskedLinear(torch.tensor([0, 1]), torch.tensor([0, 1, -1]), torch.Generator())
        >>> layer.mask_OH
        tensor([[ True, False],
                [ True,  True],
                [False, False]])
    """

    mask_OH: Tensor

    def __init__(self, degrees_in_H: Tensor, degrees_out_O: Tensor, source: torch.Generator) -> None:
        super().__init__()
        bound, width = 1 / math.sqrt(len(degrees_in_H)), len(degrees_out_O)
        self.weight = nn.Parameter(torch.empty(width, len(degrees_in_H)).uniform_(-bound, bound, generator=source))
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound, generator=source))
        self.register_buffer("mask_OH", degrees_out_O[:, None] >= degrees_in_H[None, :], persistent=False)

    def forward(self, x_BH: Tensor) -> Tensor:
        """Compute the units of this layer, shape (B, O)."""
        return F.linear(x_BH, self.weight * self.mask_OH, self.bias)


class MADE(nn.Module):
    """A masked autoregressive block: each dimension is shifted and scaled by a function of the previous ones.

    u_i = (x_i - m_i) exp(-a_i), where m_i and a_i are outputs of a network D -> D -> D -> 2D that depend on
    x_1 ... x_(i-1) only. The Jacobian is therefore triangular, and its log-determinant is -sum_i a_i. The block has
    about 4 D^2 weights. Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015,
    https://arxiv.org/abs/1502.03509; Papamakarios et al., "Masked Autoregressive Flow for Density Estimation",
    NeurIPS 2017, https://arxiv.org/abs/1705.07057, Eq. 3 to 5.

    Args:
        dim: Number of dimensions D.
        reverse: Whether to order the dimensions from last to first, as every other block of a flow should.
        seed: Seed of the initial weights.

    Raises:
        InputError: If `dim` is less than 1.

    Example:
        >>> block = MADE(3)
        >>> latent, logdet = block(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> latent.shape, logdet.shape
        (torch.Size([1, 3]), torch.Size([1]))
        >>> torch.allclose(block.inverse(latent), torch.tensor([[1.0, 2.0, 3.0]]), atol=1e-5)
        True
    """

    order_D: Tensor

    def __init__(self, dim: int, *, reverse: bool = False, seed: int = 0) -> None:
        super().__init__()
        if dim < 1:
            raise InputError(f"`dim` of a flow must be >= 1, got {dim}")
        source = generator("made", seed)
        order_D = torch.arange(dim)
        inputs_D = order_D.flip(0) if reverse else order_D
        hidden_D = order_D % max(dim - 1, 1)
        outputs = (inputs_D - 1).repeat(2)  # shifts and log scales depend on strictly smaller degrees
        self.hidden = nn.Sequential(
            MaskedLinear(inputs_D, hidden_D, source), nn.ReLU(), MaskedLinear(hidden_D, hidden_D, source), nn.ReLU()
        )
        self.out = MaskedLinear(hidden_D, outputs, source)
        # the dimension at each position of the order; reversal is its own inverse
        self.register_buffer("order_D", inputs_D, persistent=False)

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Map data towards the base density.

        Args:
            x_BD: Data, shape (B, D).

        Returns:
            The latents, shape (B, D), and the log-determinant of the Jacobian, shape (B,).
        """
        shifts_BD, log_scales_BD = self._shifts_and_log_scales(x_BD)
        return (x_BD - shifts_BD) * torch.exp(-log_scales_BD), -log_scales_BD.sum(dim=1)

    @torch.no_grad()
    def inverse(self, latent_BD: Tensor) -> Tensor:
        """Map latents back to data, with one pass per dimension and without gradient.

        Args:
            latent_BD: Latents, shape (B, D).
        """
        x_BD = torch.zeros_like(latent_BD)
        for place in self.order_D.tolist():
            shifts_BD, log_scales_BD = self._shifts_and_log_scales(x_BD)
            x_BD[:, place] = latent_BD[:, place] * torch.exp(log_scales_BD[:, place]) + shifts_BD[:, place]
        return x_BD

    def _shifts_and_log_scales(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        shifts_BD, log_scales_BD = self.out(self.hidden(x_BD)).chunk(2, dim=1)
        return shifts_BD, log_scales_BD


class FlowBatchNorm(nn.Module):
    """Batch normalization as a flow layer: y = exp(log_gamma) (x - mean) / sqrt(var + eps) + beta.

    Training uses the statistics of the batch. Evaluation uses running statistics, so that the map is invertible and
    the same for every example. Dinh et al., "Density estimation using Real NVP", ICLR 2017, Sec. 3.7,
    https://arxiv.org/abs/1605.08803. Momentum, epsilon and the unbiased variance are those of the authors' code of DLSA
    (`silicx/DLSA`). There the running statistics start at mean 0 and variance 1, which dominate short trainings; here
    they start with the first batch.

    Args:
        dim: Number of dimensions D.
        momentum: Weight of the previous running statistics in their update, in [0, 1).
        eps: Constant added to the variance, > 0.

    Raises:
        InputError: If `dim`, `momentum` or `eps` is out of range.

    Example:
        >>> norm = FlowBatchNorm(1)
        >>> norm(torch.tensor([[1.0], [3.0]]))[0].detach().flatten()
        tensor([-0.7071,  0.7071])
        >>> norm.running_mean_D
        tensor([2.])
    """

    running_mean_D: Tensor
    running_var_D: Tensor
    started: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__()
        if dim < 1 or not 0 <= momentum < 1 or not eps > 0:
            raise InputError(
                f"`dim` must be >= 1, `momentum` in [0, 1) and `eps` > 0, got {dim}, {momentum} and {eps}; the "
                "published values are 0.9 and 1e-5"
            )
        self.momentum, self.eps = momentum, eps
        self.log_gamma = nn.Parameter(torch.zeros(dim))
        self.beta = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean_D", torch.zeros(dim))
        self.register_buffer("running_var_D", torch.ones(dim))
        self.register_buffer("started", torch.tensor(False))

    def forward(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Map data towards the base density.

        Args:
            x_BD: Data, shape (B, D).

        Returns:
            The normalized batch, shape (B, D), and the log-determinant, equal for all examples, shape (B,).

        Raises:
            InputError: In training, for a batch of one example, whose variance is undefined.
        """
        mean_D, var_D = self._batch_statistics(x_BD) if self.training else (self.running_mean_D, self.running_var_D)
        y_BD = self.log_gamma.exp() * (x_BD - mean_D) / torch.sqrt(var_D + self.eps) + self.beta
        logdet = (self.log_gamma - 0.5 * torch.log(var_D + self.eps)).sum()
        return y_BD, logdet.expand(len(x_BD))

    @torch.no_grad()
    def inverse(self, y_BD: Tensor) -> Tensor:
        """Invert the layer with its running statistics, without gradient.

        Args:
            y_BD: Normalized data, shape (B, D).
        """
        scaled_BD = (y_BD - self.beta) * torch.exp(-self.log_gamma)
        return scaled_BD * torch.sqrt(self.running_var_D + self.eps) + self.running_mean_D

    def _batch_statistics(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        if len(x_BD) < 2:
            raise InputError(f"batch normalization trains on batches of at least 2 examples, got {len(x_BD)}")
        var_D, mean_D = torch.var_mean(x_BD, dim=0)
        with torch.no_grad():
            keep = self.momentum * self.started  # 0 for the first batch, which replaces the initial values
            self.running_mean_D.mul_(keep).add_((1 - keep) * mean_D)
            self.running_var_D.mul_(keep).add_((1 - keep) * var_D)
            self.started.fill_(True)
        return mean_D, var_D


def center_spread(dim: int, sigma: Sigma) -> float:
    """Return the standard deviation of the mixture centers in each dimension.

    Args:
        dim: Number of dimensions D.
        sigma: The standard deviation, or "auto" for sqrt(3 / 2D) (supplement, Sec. 3), which makes the mean squared
            distance of two centers 3 in any number of dimensions.

    Raises:
        InputError: If `sigma` is not positive.

    Example:
        >>> round(center_spread(1024, "auto"), 4), center_spread(1024, 0.05)
        (0.0383, 0.05)
    """
    if isinstance(sigma, str):
        if sigma != "auto":
            raise InputError(f"`sigma` must be a number or 'auto' (sqrt(3 / 2D)), got {sigma!r}")
        return math.sqrt(1.5 / dim)
    if not 0 < sigma < math.inf:
        raise InputError(f"`sigma`, the spread of the centers, must be > 0 (0.05 in the paper), got {sigma}")
    return sigma


class GaussianMixture(nn.Module):
    """A uniform mixture of Gaussians N(mu_k, I) with fixed centers, drawn once from N(0, sigma^2 I).

    Izmailov et al., "Semi-Supervised Learning with Normalizing Flows", ICML 2020, https://arxiv.org/abs/1912.13025.
    The authors' code of DLSA (`silicx/DLSA`) computes all differences u - mu_k, an array of B x K x D numbers (4.2 GB
    at B = 1024, K = 500, D = 2048). Here -|u - mu_k|^2 / 2 is expanded into the matrix product u mu_k - |mu_k|^2 / 2
    and the term -|u|^2 / 2. All clusters share that term, so it stays outside the log-sum-exp, and the posterior keeps
    its precision for any length of u.

    Args:
        dim: Number of dimensions D.
        clusters: Number of clusters K.
        sigma: Standard deviation of the centers in each dimension, or "auto" for sqrt(3 / 2D).
        seed: Seed of the centers.

    Raises:
        InputError: If `dim`, `clusters` or `sigma` is not positive.

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
            raise InputError(f"the dimension and `clusters` of a mixture must be >= 1, got {dim} and {clusters}")
        centers_KD = torch.randn(clusters, dim, generator=generator("centres", seed))  # codespell:ignore
        self.register_buffer("centers_KD", center_spread(dim, sigma) * centers_KD)

    def forward(self, latent_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Compute density and cluster posterior of latents, in their precision, at least float32.

        Args:
            latent_BD: Latents, shape (B, D).

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
        """Compute the log-density log p(u) of latents (B, D), shape (B,)."""
        log_density_B: Tensor = self(latent_BD)[0]
        return log_density_B

    def log_posterior(self, latent_BD: Tensor) -> Tensor:
        """Compute the log-posterior log p(k | u) of latents (B, D), shape (B, K)."""
        log_posterior_BK: Tensor = self(latent_BD)[1]
        return log_posterior_BK
