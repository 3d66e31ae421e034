"""Flow filter of DLSA (Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022).

https://arxiv.org/abs/2208.02567: a masked autoregressive flow that takes frozen features to a mixture of
Gaussians. How likely it finds a feature says on which side of the label space it belongs, and the nearest Gaussian is
its cluster. The authors' code (`silicx/DLSA`) takes features as they are; here a filter can hold the mean and the scale
of each dimension, so that the learning rate does not depend on the units of the features.
Shapes: N = examples, B = batch or block, D = embedding dimension, K = clusters.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from longtail._random import key
from longtail.errors import InputError
from longtail.posthoc.dlsa.flow.batch_norm import FlowBatchNorm
from longtail.posthoc.dlsa.flow.made import MADE
from longtail.posthoc.dlsa.flow.mixture import GaussianMixture, Sigma

FLATTEST = 1e-3
"""Least scale of a dimension, over the root mean square of all: one that hardly varies is not blown up to full size."""


class FlowOutput(NamedTuple):
    """What a filter says of a batch."""

    log_density_B: Tensor
    """log p(x), natural logarithm."""
    log_posterior_BK: Tensor
    """log p(k | x); its argmax is the cluster."""
    latent_BD: Tensor
    """Where the flow has taken x."""


class Assignment(NamedTuple):
    """What a filter says of many examples, in evaluation mode."""

    log_density_N: Tensor
    """log p(x)."""
    clusters_N: Tensor
    """The likeliest cluster, int64."""
    usage_K: Tensor
    """p(k): mean of p(k | x) over the examples."""


class FlowFilter(nn.Module):
    """A normalizing flow over a fixed mixture of Gaussians: (B, D) -> density and clusters.

    Args:
        embedding_dim: D.
        clusters: K, Gaussians of the mixture (500 in the paper).
        blocks: pairs of an autoregressive block and a batch normalisation; every other one counts from the last
            dimension to the first.
        sigma: spread of the centres in each dimension, or "auto" for sqrt(3 / 2D).
        seed: of the centres and the initial weights; the global random numbers are left alone.

    Raises:
        InputError: if a number is not positive.

    Example:
        >>> flow_filter = FlowFilter(8, clusters=5).eval()
        >>> output = flow_filter(torch.zeros(2, 8))
        >>> output.log_density_B.shape, output.log_posterior_BK.shape
        (torch.Size([2]), torch.Size([2, 5]))
        >>> flow_filter.cluster(torch.zeros(2, 8)).shape
        torch.Size([2])
    """

    mean_D: Tensor
    scale_D: Tensor

    def __init__(
        self, embedding_dim: int, *, clusters: int = 500, blocks: int = 2, sigma: Sigma = 0.05, seed: int = 0
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise InputError(f"a flow filter needs at least one block (2 in the paper), not {blocks}")
        self.mixture = GaussianMixture(embedding_dim, clusters, sigma=sigma, seed=seed)
        self.layers = nn.ModuleList()
        for block in range(blocks):
            self.layers.append(MADE(embedding_dim, reverse=block % 2 == 1, seed=key("block", seed, block)))
            self.layers.append(FlowBatchNorm(embedding_dim))
        self.register_buffer("mean_D", torch.zeros(embedding_dim))
        self.register_buffer("scale_D", torch.ones(embedding_dim))

    @property
    def embedding_dim(self) -> int:
        """D."""
        return len(self.mean_D)

    @property
    def clusters(self) -> int:
        """K."""
        return len(self.mixture.centers_KD)

    def forward(self, x_BD: Tensor) -> FlowOutput:
        """Density and clusters of features.

        Args:
            x_BD: shape (B, D), any float type; computed in at least float32, also under autocast.

        Raises:
            InputError: if the shape does not fit.
        """
        if x_BD.ndim != 2 or x_BD.shape[1] != self.embedding_dim:
            raise InputError(
                f"the filter takes features of shape (B, {self.embedding_dim}), not {tuple(x_BD.shape)}; "
                "build it with the embedding dimension of the backbone"
            )
        with torch.autocast(x_BD.device.type, enabled=False):
            latent_BD = (x_BD.to(self.mean_D.dtype) - self.mean_D) / self.scale_D
            logdet_B = -self.scale_D.log().sum().expand(len(x_BD))
            for layer in self.layers:
                latent_BD, own_B = layer(latent_BD)
                logdet_B = logdet_B + own_B
            log_density_B, log_posterior_BK = self.mixture(latent_BD)
        return FlowOutput(log_density_B + logdet_B, log_posterior_BK, latent_BD)

    def log_density(self, x_BD: Tensor) -> Tensor:
        """The log-density log p(x), shape (B,)."""
        return self(x_BD).log_density_B  # type: ignore[no-any-return]

    def cluster(self, x_BD: Tensor) -> Tensor:
        """The likeliest cluster of each example, int64, shape (B,)."""
        return self(x_BD).log_posterior_BK.argmax(dim=1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def inverse(self, latent_BD: Tensor) -> Tensor:
        """The features that a latent comes from by the running statistics, shape (B, D); D passes for each block."""
        for layer in reversed(self.layers):
            latent_BD = layer.inverse(latent_BD)  # type: ignore[operator]
        return latent_BD * self.scale_D + self.mean_D

    @torch.no_grad()
    def standardize(self, features_ND: Tensor) -> None:
        """Take mean and scale of each dimension from features, shape (N, D), and count in their standard deviations.

        A dimension that does not vary keeps its place and has the least scale, `FLATTEST` of the others'.
        """
        # in float64: a mean far from zero would leave a float32 variance no digits
        var_D, mean_D = torch.var_mean(features_ND.double(), dim=0, correction=0)
        typical = var_D.mean().sqrt()
        scale_D = torch.where(typical > 0, var_D.sqrt().clamp(min=FLATTEST * typical), 1.0)
        self.mean_D.copy_(mean_D)
        self.scale_D.copy_(scale_D)

    @torch.no_grad()
    def assign(self, features_ND: Tensor, block: int = 8192) -> Assignment:
        """Density and cluster of many examples, in evaluation mode, whatever mode the filter is in.

        Args:
            features_ND: shape (N, D), on any device.
            block: rows taken at once.

        Returns:
            On the device of the filter.
        """
        was_training = self.training
        self.eval()
        try:
            densities, clusters = [], []
            usage_K = torch.zeros(self.clusters, dtype=torch.float64, device=self.mean_D.device)
            for rows_BD in torch.split(features_ND, block):
                output = self(rows_BD.to(self.mean_D.device))
                densities.append(output.log_density_B)
                clusters.append(output.log_posterior_BK.argmax(dim=1))
                usage_K += output.log_posterior_BK.exp().sum(dim=0)
        finally:
            self.train(was_training)
        return Assignment(torch.cat(densities), torch.cat(clusters), usage_K / max(len(features_ND), 1))
