"""The three objectives of a flow filter (DLSA, ECCV 2022), each usable alone.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567, and its supplement, Sec. 2. None of them is multiplied by its weight (lambda) here.
Shapes: B = batch, C = classes, K = clusters, N = examples.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError

FLOOR = 1e-7
"""Added to each cluster's share, as in the authors' code: an empty one has a gradient, and no infinite one."""


def likelihood_weights(class_counts: Countable, power: float = 2.0) -> Tensor:
    """Weight of each class in the likelihood, (n_max / n_c)^q over their sum, shape (C,), float32.

    Args:
        class_counts: examples of each class, shape (C,); of the examples that are still in play at this level.
        power: q; 0 weighs all classes alike.

    Returns:
        The weights, which sum to one; 0 for a class without an example.

    Raises:
        InputError: if `power` is negative.

    Example:
        >>> likelihood_weights([30, 10, 0])
        tensor([0.1000, 0.9000, 0.0000])
    """
    if not 0 <= power < math.inf:
        raise InputError(f"power must be >= 0 (2 in the paper, 0 weighs all classes alike), not {power}")
    counts_C = ClassCounts(class_counts).counts.double()
    logs_C = torch.where(counts_C > 0, -power * counts_C.log(), -math.inf)
    return logs_C.softmax(dim=0).float()


def weighted_likelihood(log_density_B: Tensor, targets_B: Tensor, weights_C: Tensor) -> Tensor:
    """Negative log-likelihood of a batch, each example weighted by its class: -mean w(c) log p(x), a scalar.

    With classes drawn equally often and `likelihood_weights`, the mass lies on the rarest classes, so that "likely"
    comes to mean "rare". The mean is over the examples, not over their weights.

    Args:
        log_density_B: log p(x), shape (B,).
        targets_B: labels, shape (B,).
        weights_C: weight of each class, shape (C,).

    Example:
        >>> weighted_likelihood(torch.tensor([-1.0, -2.0]), torch.tensor([0, 1]), torch.tensor([0.1, 0.9]))
        tensor(0.9500)
    """
    return -(weights_C.to(log_density_B.device)[targets_B] * log_density_B).mean()


def imbalance(share_K: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the clusters' shares from equal ones, log K - entropy, in nats; a scalar.

    Args:
        share_K: share of each cluster, sums to one, shape (K,); empty ones are allowed.

    Example:
        >>> imbalance(torch.tensor([0.5, 0.5])), imbalance(torch.tensor([1.0, 0.0]))
        (tensor(0.), tensor(0.6931))
    """
    return torch.xlogy(share_K, share_K).sum() + math.log(len(share_K))


class ClusterBalance(nn.Module):
    """How far the clusters' shares are from equal ones, estimated over the last batches (supplement, Sec. 2.2).

    A batch alone is too small to say how full 500 clusters are, so the shares p are averaged over time: s_t = eta
    s_(t-1) + (1 - eta) p_t, and s_t / (1 - eta^t) is their estimate: without bias, with phi(1) / phi(t) times the
    variance of p_t, phi(t) = (1 - eta^t) / (1 + eta^t). The gradient goes through p_t alone.

    Args:
        clusters: K.
        momentum: eta; 0 looks at the batch alone.

    Raises:
        InputError: if `clusters` is not positive, or `momentum` not in [0, 1).

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
            raise InputError(
                f"the balance needs at least one cluster and a momentum in [0, 1), not {clusters} and {momentum}"
            )
        self.momentum = momentum
        self.register_buffer("history_K", torch.zeros(clusters))
        self.register_buffer("steps", torch.tensor(0))

    def shares(self, log_posterior_BK: Tensor) -> Tensor:
        """Estimated share of each cluster after this batch, shape (K,); in training, the batch is remembered."""
        batch_K = log_posterior_BK.exp().mean(dim=0) + FLOOR
        mixed_K = self.momentum * self.history_K.to(batch_K.dtype) + (1 - self.momentum) * batch_K
        steps = self.steps + 1
        if self.training:
            self.history_K.copy_(mixed_K.detach())
            self.steps.copy_(steps)
        return mixed_K / (1 - self.momentum ** steps.to(batch_K.dtype))

    def forward(self, log_posterior_BK: Tensor) -> Tensor:
        """Divergence of the estimated shares from equal ones, in nats, a scalar.

        Args:
            log_posterior_BK: log p(k | x), shape (B, K).

        Raises:
            InputError: if it is of another number of clusters.
        """
        if log_posterior_BK.ndim != 2 or log_posterior_BK.shape[1] != len(self.history_K):
            raise InputError(
                f"the balance of {len(self.history_K)} clusters needs posteriors of shape (B, {len(self.history_K)}), "
                f"not {tuple(log_posterior_BK.shape)}"
            )
        return imbalance(self.shares(log_posterior_BK))


def cluster_purity(
    log_posterior_BK: Tensor, other_BK: Tensor, *, freeze: bool = True, margin: float | None = None
) -> Tensor:
    """Mean of sum_k p(k | x) log p(k | x'), a scalar: small where x and x', of two classes, lie in different clusters.

    Args:
        log_posterior_BK: log p(k | x), shape (B, K).
        other_BK: log p(k | x') of an example of another class, shape (B, K).
        freeze: only x' is pushed away (the authors' `contrast_freeze`).
        margin: least probability that counts, in (0, 1]: pairs are pushed no further apart (their `contrast_margin`),
            and the loss does not fall below log(margin). None: there is no bound.

    Raises:
        InputError: if `margin` is not in (0, 1].

    Example:
        >>> x, other = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.999, 0.001]]).log()
        >>> cluster_purity(x, other), cluster_purity(x, other, margin=0.1)
        (tensor(-3.4544), tensor(-1.1518))
    """
    if margin is not None:
        if not 0 < margin <= 1:
            raise InputError(f"margin is a probability in (0, 1], or None for no bound, not {margin}")
        other_BK = other_BK.clamp(min=math.log(margin))
    posterior_BK = (log_posterior_BK.detach() if freeze else log_posterior_BK).exp()
    return (posterior_BK * other_BK).sum(dim=1).mean()


class ClusterTally(NamedTuple):
    """How full each cluster is, and how much of it is of one class."""

    sizes_K: Tensor
    """Examples, int64."""
    purity_K: Tensor
    """Share of the commonest class, float32; 0 where the cluster is empty."""


def tally_clusters(clusters_N: Tensor, targets_N: Tensor, clusters: int, num_classes: int) -> ClusterTally:
    """Size and purity of each cluster, each example counted in the likeliest.

    Args:
        clusters_N: cluster of each example, int64, shape (N,).
        targets_N: labels, shape (N,).
        clusters: K.
        num_classes: C.

    Example:
        >>> tally = tally_clusters(torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 0, 0]), 3, 2)
        >>> tally.sizes_K, tally.purity_K
        (tensor([3, 0, 1]), tensor([0.6667, 0.0000, 1.0000]))
    """
    cells_N = clusters_N * num_classes + targets_N.to(clusters_N.device)
    table_KC = torch.bincount(cells_N, minlength=clusters * num_classes).view(clusters, num_classes)
    sizes_K = table_KC.sum(dim=1)
    return ClusterTally(sizes_K, table_KC.amax(dim=1) / sizes_K.clamp(min=1))
