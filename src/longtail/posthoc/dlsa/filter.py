"""Flow filter of DLSA and the objectives it is trained with.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567, and its supplement, Sec. 2. A filter is a masked autoregressive flow from frozen
features to a mixture of Gaussians. Its density selects the side of the label space; the nearest Gaussian is the
cluster. The objectives are returned without their weights (lambda).

Shapes: N = examples, B = batch or block, D = embedding dimension, C = classes, K = clusters.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longtail._random import key
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.posthoc.dlsa.flow import MADE, FlowBatchNorm, GaussianMixture, Sigma

MIN_SCALE = 1e-3
"""Minimum scale of a dimension relative to the root mean square of all, so that near-constant ones stay small."""
FLOOR = 1e-7
"""Added to each cluster share, as in the authors' code: the gradient of an empty cluster is finite and not zero."""


class FlowOutput(NamedTuple):
    """Outputs of a filter for a batch.

    Attributes:
        log_density_B: Log-density log p(x), natural logarithm, shape (B,).
        log_posterior_BK: Cluster log-posterior log p(k | x), shape (B, K); its argmax is the cluster.
        latent_BD: Image of x under the flow, shape (B, D).
    """

    log_density_B: Tensor
    log_posterior_BK: Tensor
    latent_BD: Tensor


class Assignment(NamedTuple):
    """Outputs of a filter for many examples, in evaluation mode.

    Attributes:
        log_density_N: Log-density log p(x), shape (N,).
        clusters_N: Most likely cluster, int64, shape (N,).
        usage_K: Cluster usage p(k), the mean of p(k | x) over the examples, shape (K,).
    """

    log_density_N: Tensor
    clusters_N: Tensor
    usage_K: Tensor


class FlowFilter(nn.Module):
    """A normalizing flow over a fixed mixture of Gaussians: features (B, D) -> density and clusters.

    The authors' code (`silicx/DLSA`) uses features as they are. Here a filter can also store mean and scale of each
    dimension (`standardize`), so that the learning rate does not depend on the scale of the features.

    Args:
        embedding_dim: Embedding dimension D.
        clusters: Number of Gaussians K (500 in the paper).
        blocks: Number of pairs of an autoregressive block and a batch normalization. Every second block reverses the
            order of the dimensions.
        sigma: Standard deviation of the centers in each dimension, or "auto" for sqrt(3 / 2D).
        seed: Seed of centers and initial weights; the global random state does not change.

    Raises:
        InputError: If a number is not positive.

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
            raise InputError(f"`blocks` of a flow filter must be >= 1 (2 in the paper), got {blocks}")
        self.mixture = GaussianMixture(embedding_dim, clusters, sigma=sigma, seed=seed)
        self.layers = nn.ModuleList()
        for block in range(blocks):
            self.layers.append(MADE(embedding_dim, reverse=block % 2 == 1, seed=key("block", seed, block)))
            self.layers.append(FlowBatchNorm(embedding_dim))
        self.register_buffer("mean_D", torch.zeros(embedding_dim))
        self.register_buffer("scale_D", torch.ones(embedding_dim))

    @property
    def embedding_dim(self) -> int:
        """Embedding dimension D."""
        return len(self.mean_D)

    @property
    def clusters(self) -> int:
        """Number of clusters K."""
        return len(self.mixture.centers_KD)

    def forward(self, x_BD: Tensor) -> FlowOutput:
        """Compute density, cluster posterior and latents of features.

        Args:
            x_BD: Features, shape (B, D), any float type; computed in at least float32, also under autocast.

        Raises:
            InputError: If the shape does not fit.
        """
        if x_BD.ndim != 2 or x_BD.shape[1] != self.embedding_dim:
            raise InputError(
                f"the filter takes features of shape (B, {self.embedding_dim}), got {tuple(x_BD.shape)}; build it with "
                "the embedding dimension of the backbone"
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
        """Compute the log-density log p(x) of features (B, D), shape (B,)."""
        return self(x_BD).log_density_B  # type: ignore[no-any-return]

    def cluster(self, x_BD: Tensor) -> Tensor:
        """Return the most likely cluster of features (B, D), int64, shape (B,)."""
        return self(x_BD).log_posterior_BK.argmax(dim=1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def inverse(self, latent_BD: Tensor) -> Tensor:
        """Map latents back to features with the running statistics, with D passes per block.

        Args:
            latent_BD: Latents, shape (B, D).
        """
        for layer in reversed(self.layers):
            latent_BD = layer.inverse(latent_BD)  # type: ignore[operator]
        return latent_BD * self.scale_D + self.mean_D

    @torch.no_grad()
    def standardize(self, features_ND: Tensor) -> None:
        """Store mean and standard deviation of each dimension, by which the filter then standardizes its input.

        A constant dimension gets the minimum scale, `MIN_SCALE` relative to the others.

        Args:
            features_ND: Features, shape (N, D).
        """
        # float64: with a mean far from zero, the variance in float32 would have no correct digit
        var_D, mean_D = torch.var_mean(features_ND.double(), dim=0, correction=0)
        typical = var_D.mean().sqrt()
        scale_D = torch.where(typical > 0, var_D.sqrt().clamp(min=MIN_SCALE * typical), 1.0)
        self.mean_D.copy_(mean_D)
        self.scale_D.copy_(scale_D)

    @torch.no_grad()
    def assign(self, features_ND: Tensor, block: int = 8192) -> Assignment:
        """Compute density and cluster of many examples in evaluation mode; the mode of the filter does not change.

        Args:
            features_ND: Features, shape (N, D), on any device.
            block: Number of rows per forward pass.

        Returns:
            Density, clusters and cluster usage, on the device of the filter.
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


def likelihood_weights(class_counts: Countable, power: float = 2.0) -> Tensor:
    """Compute the weight of each class in the likelihood, (n_max / n_c)^q normalized to sum one.

    Args:
        class_counts: Number of remaining examples of each class at this level, shape (C,).
        power: Exponent q >= 0; 0 gives equal weights.

    Returns:
        Weights, shape (C,), float32; 0 for a class without an example.

    Raises:
        InputError: If `power` is negative or infinite.

    Example:
        >>> likelihood_weights([30, 10, 0])
        tensor([0.1000, 0.9000, 0.0000])
    """
    if not 0 <= power < math.inf:
        raise InputError(f"`power` must be finite and >= 0 (2 in the paper, 0 gives equal weights), got {power}")
    counts_C = ClassCounts(class_counts).counts.double()
    logs_C = torch.where(counts_C > 0, -power * counts_C.log(), -math.inf)
    return logs_C.softmax(dim=0).float()


def weighted_likelihood(log_density_B: Tensor, targets_B: Tensor, weights_C: Tensor) -> Tensor:
    """Compute the class-weighted negative log-likelihood of a batch, -mean w(c) log p(x), a scalar.

    With class-balanced sampling and `likelihood_weights`, the probability mass concentrates on the rarest classes, so
    that a high density indicates a rare class. The mean is over the examples, not over their weights.

    Args:
        log_density_B: Log-density log p(x), shape (B,).
        targets_B: Labels, shape (B,).
        weights_C: Weight of each class, shape (C,).

    Example:
        >>> weighted_likelihood(torch.tensor([-1.0, -2.0]), torch.tensor([0, 1]), torch.tensor([0.1, 0.9]))
        tensor(0.9500)
    """
    return -(weights_C.to(log_density_B.device)[targets_B] * log_density_B).mean()


def imbalance(share_K: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of cluster shares from uniform shares, log K - entropy, in nats.

    Args:
        share_K: Share of each cluster, sum one, shape (K,). Empty clusters are allowed.

    Returns:
        A scalar, 0 for equal shares.

    Example:
        >>> imbalance(torch.tensor([0.5, 0.5])), imbalance(torch.tensor([1.0, 0.0]))
        (tensor(0.), tensor(0.6931))
    """
    return torch.xlogy(share_K, share_K).sum() + math.log(len(share_K))


class ClusterBalance(nn.Module):
    """Divergence of the cluster shares from uniform shares, estimated over recent batches (supplement, Sec. 2.2).

    One batch is too small to estimate the shares of 500 clusters, so the shares p are averaged over time:
    s_t = eta s_(t-1) + (1 - eta) p_t, with the estimate s_t / (1 - eta^t). It is unbiased and has phi(1) / phi(t) times
    the variance of p_t, where phi(t) = (1 - eta^t) / (1 + eta^t). The gradient flows through p_t only.

    Args:
        clusters: Number of clusters K.
        momentum: Momentum eta in [0, 1); 0 uses the present batch only.

    Raises:
        InputError: If `clusters` is not positive, or `momentum` is not in [0, 1).

    Example:
        >>> balance = ClusterBalance(2)
        >>> balance(torch.tensor([[0.9, 0.1], [0.1, 0.9]]).log()).round(decimals=4)
        tensor(0.)
    """

    history_K: Tensor
    steps: Tensor

    def __init__(self, clusters: int, *, momentum: float = 0.7) -> None:
        super().__init__()
        if clusters < 1 or not 0 <= momentum < 1:
            raise InputError(f"`clusters` must be >= 1 and `momentum` in [0, 1), got {clusters} and {momentum}")
        self.momentum = momentum
        self.register_buffer("history_K", torch.zeros(clusters))
        self.register_buffer("steps", torch.tensor(0))

    def shares(self, log_posterior_BK: Tensor) -> Tensor:
        """Estimate the share of each cluster, shape (K,); in training mode the average is updated.

        Args:
            log_posterior_BK: Cluster log-posterior log p(k | x), shape (B, K).
        """
        batch_K = log_posterior_BK.exp().mean(dim=0) + FLOOR
        mixed_K = self.momentum * self.history_K.to(batch_K.dtype) + (1 - self.momentum) * batch_K
        steps = self.steps + 1
        if self.training:
            self.history_K.copy_(mixed_K.detach())
            self.steps.copy_(steps)
        return mixed_K / (1 - self.momentum ** steps.to(batch_K.dtype))

    def forward(self, log_posterior_BK: Tensor) -> Tensor:
        """Compute the divergence of the estimated shares from uniform shares, in nats, a scalar.

        Args:
            log_posterior_BK: Cluster log-posterior log p(k | x), shape (B, K).

        Raises:
            InputError: If the number of clusters does not fit.
        """
        clusters = len(self.history_K)
        if log_posterior_BK.ndim != 2 or log_posterior_BK.shape[1] != clusters:
            raise InputError(f"posteriors must have shape (B, {clusters}), got {tuple(log_posterior_BK.shape)}")
        return imbalance(self.shares(log_posterior_BK))


def cluster_purity(
    log_posterior_BK: Tensor, other_BK: Tensor, *, freeze: bool = True, margin: float | None = None
) -> Tensor:
    """Compute the mean of sum_k p(k | x) log p(k | x'), small if x and x' of two classes are in different clusters.

    Args:
        log_posterior_BK: Cluster log-posterior log p(k | x), shape (B, K).
        other_BK: Cluster log-posterior log p(k | x') of examples of other classes, shape (B, K).
        freeze: Whether the gradient flows through x' only (`contrast_freeze` in the authors' code).
        margin: Lower bound of p(k | x') in (0, 1] (`contrast_margin` in the authors' code), so that the loss is at
            least log(margin). None means no bound.

    Raises:
        InputError: If `margin` is not in (0, 1].

    Example:
        >>> x, other = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.999, 0.001]]).log()
        >>> cluster_purity(x, other), cluster_purity(x, other, margin=0.1)
        (tensor(-3.4544), tensor(-1.1518))
    """
    if margin is not None:
        if not 0 < margin <= 1:
            raise InputError(f"`margin` must be a probability in (0, 1], or None for no bound, got {margin}")
        other_BK = other_BK.clamp(min=math.log(margin))
    posterior_BK = (log_posterior_BK.detach() if freeze else log_posterior_BK).exp()
    return (posterior_BK * other_BK).sum(dim=1).mean()


class ClusterTally(NamedTuple):
    """Size and purity of each cluster.

    Attributes:
        sizes_K: Number of examples, int64, shape (K,).
        purity_K: Share of the most frequent class, float32, shape (K,); 0 for an empty cluster.
    """

    sizes_K: Tensor
    purity_K: Tensor


def tally_clusters(clusters_N: Tensor, targets_N: Tensor, clusters: int, num_classes: int) -> ClusterTally:
    """Count size and purity of each cluster.

    Args:
        clusters_N: Cluster of each example, int64, shape (N,).
        targets_N: Labels in [0, C), shape (N,).
        clusters: Number of clusters K.
        num_classes: Number of classes C.

    Example:
        >>> tally = tally_clusters(torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 0, 0]), 3, 2)
        >>> tally.sizes_K, tally.purity_K
        (tensor([3, 0, 1]), tensor([0.6667, 0.0000, 1.0000]))
    """
    cells_N = clusters_N * num_classes + targets_N.to(clusters_N.device)
    table_KC = torch.bincount(cells_N, minlength=clusters * num_classes).view(clusters, num_classes)
    sizes_K = table_KC.sum(dim=1)
    return ClusterTally(sizes_K, table_KC.amax(dim=1) / sizes_K.clamp(min=1))
