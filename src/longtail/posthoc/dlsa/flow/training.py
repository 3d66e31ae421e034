"""Training of a flow filter on features and labels (DLSA, Xu et al., ECCV 2022, https://arxiv.org/abs/2208.02567).

Each item is a pair of examples of two classes drawn uniformly: the first is to be likely, weighted by the rarity of its
class, and both are to lie in different clusters, all equally used. As in the authors' code (`silicx/DLSA`): stochastic
gradient descent with a constant rate, and the weights of the epoch with the most good clusters are kept. Where we
differ: features are standardised first, unless told otherwise; both halves of a pair are normalised as one batch; an
epoch is cut into batches of nearly equal size, where a last one of a few examples would disturb the running statistics;
of equally good epochs the last is kept (theirs keeps the first, which on a small set is the untrained one); and the
gradients are bounded. Theirs are not (they would be clipped before they are computed, and no published setting asks for
it), but the likelihood grows as D and its weights fall as 1/C: with fewer classes than dimensions the rate of 0.2
diverges. At the published sizes (C = 1000, D = 2048) the gradients begin at a tenth of the bound; on CIFAR-100-LT they
pass it after a thousand updates.
Shapes: N = examples, M = pairs, B = pairs of a batch, D = embedding dimension, C = classes, P = classes with examples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from longtail._logging import progress_bar
from longtail._random import generator
from longtail.errors import InputError, first_ten
from longtail.posthoc.dlsa.flow.filter import FlowFilter
from longtail.posthoc.dlsa.flow.objectives import (
    ClusterBalance,
    cluster_purity,
    imbalance,
    likelihood_weights,
    tally_clusters,
    weighted_likelihood,
)
from longtail.posthoc.dlsa.flow.settings import FilterSettings
from longtail.samplers.by_class import ByClass


@dataclass(frozen=True)
class FilterEpoch:
    """One epoch of a filter. The three losses are means over the epoch, before their weights.

    Args:
        epoch: from 0.
        likelihood: class-weighted negative log-likelihood, in nats.
        balance: divergence of the clusters' shares from equal ones over the last batches, in nats.
        purity: cluster purity loss.
        balancedness: the same divergence over all examples, by the weights at the end of the epoch.
        good_clusters: clusters above the least purity and size.
        largest_cluster: examples in it.
    """

    epoch: int
    likelihood: float
    balance: float
    purity: float
    balancedness: float
    good_clusters: int
    largest_cluster: int


@dataclass(frozen=True)
class FilterHistory:
    """The course of a training.

    Args:
        epochs: one row each.
        kept: the epoch whose weights the filter has.
    """

    epochs: tuple[FilterEpoch, ...]
    kept: int


PAPER = FilterSettings()


def train_filter(
    flow_filter: FlowFilter,
    features_ND: Tensor,
    targets_N: Tensor,
    settings: FilterSettings = PAPER,
    *,
    seed: int = 0,
    level: int = 0,
    on_epoch: Callable[[], None] | None = None,
) -> FilterHistory:
    """Train a filter in place, on its device, and leave it in evaluation mode.

    Args:
        flow_filter: as constructed.
        features_ND: features of the examples still in play, shape (N, D), any float type and device.
        targets_N: their labels, int64, shape (N,); classes without an example are allowed.
        settings: losses, learning rate, length.
        seed: with `level` and the number of an epoch, all its randomness.
        level: number of the filter in a chain, from 0.
        on_epoch: called after each epoch; may raise, to stop.

    Raises:
        InputError: if features and labels do not fit each other and the filter, a feature is not finite, there are
            fewer than two classes, or the training diverges.

    Example:
        >>> features, targets = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
        >>> history = train_filter(FlowFilter(4, clusters=3), features, targets, FilterSettings(epochs=2))
        >>> len(history.epochs), history.kept
        (2, 1)
    """
    _check(flow_filter, features_ND, targets_N)
    if settings.standardize:
        flow_filter.standardize(features_ND)
    trainer = _Trainer(flow_filter, features_ND, targets_N, settings)
    rows: list[FilterEpoch] = []
    kept, weights = None, {}
    with progress_bar(f"flow filter {level + 1}", settings.epochs) as bar:
        for epoch in range(settings.epochs):
            losses = trainer.run_epoch(generator("flow filter", seed, level, epoch))
            row = FilterEpoch(epoch, *losses, *trainer.judge())
            if not all(map(math.isfinite, (*losses, row.balancedness))):
                raise _diverged(level, epoch, settings)
            rows.append(row)
            if row.largest_cluster < settings.max_size and (
                kept is None or row.good_clusters >= rows[kept].good_clusters
            ):
                kept, weights = epoch, {name: value.clone() for name, value in flow_filter.state_dict().items()}
            bar.advance()
            bar.note(f"{row.good_clusters} good clusters")
            if on_epoch is not None:
                on_epoch()
    if kept is not None:
        flow_filter.load_state_dict(weights)
    flow_filter.eval()
    return FilterHistory(tuple(rows), settings.epochs - 1 if kept is None else kept)


def draw_pairs(groups: ByClass, num_pairs: int, source: torch.Generator) -> Tensor:
    """Pairs of examples of two classes, drawn uniformly among the classes, then within them.

    Returns:
        Indices of examples, int64, shape (2, M).

    Example:
        >>> targets = torch.tensor([5, 0, 0, 0])
        >>> targets[draw_pairs(ByClass(targets), 3, torch.Generator())].sum(dim=0)
        tensor([5, 5, 5])
    """
    uniforms_4M = torch.rand(4, num_pairs, generator=source, dtype=torch.float64)
    num_present = len(groups.counts_K)
    first_M = (uniforms_4M[0] * num_present).long()
    second_M = (uniforms_4M[1] * (num_present - 1)).long()  # among the others: one place on from the first
    classes_2M = torch.stack([first_M, second_M + (second_M >= first_M)])
    within_2M = (uniforms_4M[2:] * groups.counts_K[classes_2M]).long()
    return groups.members_N[groups.starts_K[classes_2M] + within_2M]


class _Trainer:
    """What an epoch needs: the data, the losses, the optimizer."""

    def __init__(
        self, flow_filter: FlowFilter, features_ND: Tensor, targets_N: Tensor, settings: FilterSettings
    ) -> None:
        device = flow_filter.mean_D.device
        self.filter, self.features_ND, self.settings = flow_filter, features_ND, settings
        self.targets_N = targets_N.to(device)
        self.groups = ByClass(targets_N.cpu())
        counts_C = torch.bincount(targets_N.cpu(), minlength=2)
        self.num_classes = len(counts_C)
        self.weights_C = likelihood_weights(counts_C, settings.power).to(device)
        self.balance = ClusterBalance(flow_filter.clusters, momentum=settings.momentum).to(device)
        self.optimizer = torch.optim.SGD(flow_filter.parameters(), lr=settings.lr)

    def run_epoch(self, source: torch.Generator) -> tuple[float, float, float]:
        """One pass of as many pairs as there are examples; the mean of each of the three losses."""
        self.filter.train()
        pairs_2M = draw_pairs(self.groups, len(self.targets_N), source)
        parts = -(-len(self.targets_N) // self.settings.batch_size)
        total_3 = torch.zeros(3, device=self.targets_N.device)
        for pairs_2B in pairs_2M.tensor_split(parts, dim=1):
            total_3 += self.step(pairs_2B) * pairs_2B.shape[1]
        likelihood, balance, purity = (total_3 / len(self.targets_N)).tolist()
        return likelihood, balance, purity

    def step(self, pairs_2B: Tensor) -> Tensor:
        """One update; the three losses, shape (3,)."""
        settings, size, device = self.settings, pairs_2B.shape[1], self.targets_N.device
        x_BD = self.features_ND[pairs_2B.flatten().to(self.features_ND.device)].to(device)
        output = self.filter(x_BD)
        first_BK, second_BK = output.log_posterior_BK.split(size)
        targets_B = self.targets_N[pairs_2B[0].to(device)]
        losses_3 = torch.stack(
            [
                weighted_likelihood(output.log_density_B[:size], targets_B, self.weights_C),
                self.balance(first_BK),
                cluster_purity(first_BK, second_BK, margin=settings.margin),
            ]
        )
        weights = (settings.likelihood_weight, settings.balance_weight, settings.purity_weight)
        self.optimizer.zero_grad()
        sum(weight * loss for weight, loss in zip(weights, losses_3, strict=True)).backward()
        if settings.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.filter.parameters(), settings.max_norm)
        self.optimizer.step()
        return losses_3.detach()

    def judge(self) -> tuple[float, int, int]:
        """Balancedness, good clusters and size of the largest, over all examples."""
        assigned = self.filter.assign(self.features_ND)
        sizes_K, purity_K = tally_clusters(assigned.clusters_N, self.targets_N, self.filter.clusters, self.num_classes)
        good_K = (purity_K > self.settings.min_purity) & (sizes_K > self.settings.min_size)
        return float(imbalance(assigned.usage_K)), int(good_K.sum()), int(sizes_K.max())


def _diverged(level: int, epoch: int, settings: FilterSettings) -> InputError:
    return InputError(
        f"the flow filter of level {level + 1} diverged in epoch {epoch + 1} of {settings.epochs}; lower the learning "
        f"rate, now lr {settings.lr}"
        + ("" if settings.standardize else ", or standardize the features (standardize: true)")
        + (", or bound the gradients (max_norm: 1.0)" if settings.max_norm is None else "")
    )


def _check(flow_filter: FlowFilter, features_ND: Tensor, targets_N: Tensor) -> None:
    if features_ND.ndim != 2 or features_ND.shape[1] != flow_filter.embedding_dim:
        raise InputError(
            f"the filter takes features of shape (N, {flow_filter.embedding_dim}), not {tuple(features_ND.shape)}; "
            "build it with the embedding dimension of the backbone"
        )
    if targets_N.shape != features_ND.shape[:1]:
        raise InputError(f"{len(features_ND)} features need as many labels, not shape {tuple(targets_N.shape)}")
    if targets_N.is_floating_point() or (len(targets_N) and int(targets_N.min()) < 0):
        raise InputError("labels must be whole numbers >= 0; give int64 class indices")
    present = len(torch.bincount(targets_N.cpu()).nonzero())
    if present < 2:
        raise InputError(
            f"a filter is trained on pairs of two classes, but the {len(targets_N)} examples in play are of "
            f"{present}; take fewer levels, or a smaller share at each"
        )
    finite_N = torch.isfinite(features_ND).all(dim=1)
    if not bool(finite_N.all()):
        bad = torch.nonzero(~finite_N).flatten().tolist()
        raise InputError(f"{len(bad)} of {len(features_ND)} features hold NaN or infinity, rows:\n{first_ten(bad)}")
