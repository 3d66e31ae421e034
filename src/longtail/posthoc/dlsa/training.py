"""Training of the parts of DLSA: a flow filter, and one classifier per group of examples.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. A filter is trained on pairs of examples of two classes drawn uniformly: the first
should be likely, weighted by the rarity of its class, and both should be in different, equally used clusters. As in the
authors' code (`silicx/DLSA`), the optimizer is stochastic gradient descent with a constant rate, and the weights of the
epoch with the most good clusters are kept. Differences from the authors' code:

- Features are standardized by default.
- Both examples of a pair are normalized in one batch.
- An epoch is split into batches of nearly equal size; a last batch of a few examples would disturb the running
  statistics.
- Of several best epochs the last is kept. Theirs keeps the first, which on small data is the untrained one.
- Gradients are clipped. Theirs are not: the code clips them before they are computed, and no published setting enables
  it. The likelihood grows with D and its weights fall with 1 / C, so with fewer classes than dimensions the rate of 0.2
  diverges. At the published sizes (C = 1000, D = 2048) gradient norms start at a tenth of the bound; on CIFAR-100-LT
  they exceed it after a thousand updates.

Shapes: N = examples, M = pairs, B = batch, D = embedding or input dimension, C = classes, T = examples of a group.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from longtail._logging import progress_bar
from longtail._random import generator
from longtail.errors import InputError, first_ten
from longtail.losses.base import Loss
from longtail.posthoc.dlsa.filter import (
    ClusterBalance,
    FlowFilter,
    cluster_purity,
    imbalance,
    likelihood_weights,
    tally_clusters,
    weighted_likelihood,
)
from longtail.posthoc.dlsa.settings import ClassifierSettings, FilterSettings
from longtail.samplers.by_class import ByClass


@dataclass(frozen=True)
class FilterEpoch:
    """Statistics of one epoch of a filter. The three losses are unweighted means over the epoch.

    Args:
        epoch: Index of the epoch, from 0.
        likelihood: Class-weighted negative log-likelihood, in nats.
        balance: Divergence of the cluster shares from uniform shares over recent batches, in nats.
        purity: Cluster purity loss.
        balancedness: The same divergence over all examples, with the weights at the end of the epoch, in nats.
        good_clusters: Number of clusters above the minimum purity and size.
        largest_cluster: Number of examples in the largest cluster.
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
    """Course of the training of a filter.

    Args:
        epochs: Statistics of each epoch.
        kept: Index of the epoch whose weights were kept.
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
        flow_filter: Newly built filter.
        features_ND: Features of the remaining examples, shape (N, D), any float type and device.
        targets_N: Labels, int64, shape (N,). Classes without an example are allowed.
        settings: Losses, learning rate and length.
        seed: Seed; with `level` and the index of the epoch it determines all random draws.
        level: Index of the filter in its chain, from 0.
        on_epoch: Function called after each epoch. It may raise to stop the training.

    Returns:
        Statistics of each epoch, and which epoch was kept.

    Raises:
        InputError: If features, labels and filter do not fit together, a feature is not finite, there are fewer than
            two classes, or the training diverges.

    Example:
        >>> features, targets = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
        >>> history = train_filter(FlowFilter(4, clusters=3), features, targets, FilterSettings(epochs=2))
        >>> len(history.epochs), history.kept
        (2, 1)
    """
    _check(flow_filter, features_ND, targets_N)
    if settings.standardize:
        flow_filter.standardize(features_ND)
    trainer = _FilterTrainer(flow_filter, features_ND, targets_N, settings)
    rows: list[FilterEpoch] = []
    kept, weights = None, {}
    with progress_bar(f"flow filter {level + 1}", settings.epochs) as bar:
        for epoch in range(settings.epochs):
            losses = trainer.run_epoch(generator("flow filter", seed, level, epoch))
            row = FilterEpoch(epoch, *losses, *trainer.evaluate())
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
    """Draw pairs of examples of two different classes, uniformly over classes, then within them.

    Args:
        groups: Examples grouped by class.
        num_pairs: Number of pairs M.
        source: Random generator.

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
    second_M = (uniforms_4M[1] * (num_present - 1)).long()  # index among the other classes
    classes_2M = torch.stack([first_M, second_M + (second_M >= first_M)])
    within_2M = (uniforms_4M[2:] * groups.counts_K[classes_2M]).long()
    return groups.members_N[groups.starts_K[classes_2M] + within_2M]


class _FilterTrainer:
    """Data, losses and optimizer of a filter."""

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
        """Train on as many pairs as there are examples, and return the mean of each loss."""
        self.filter.train()
        pairs_2M = draw_pairs(self.groups, len(self.targets_N), source)
        parts = -(-len(self.targets_N) // self.settings.batch_size)
        total_3 = torch.zeros(3, device=self.targets_N.device)
        for pairs_2B in pairs_2M.tensor_split(parts, dim=1):
            total_3 += self.step(pairs_2B) * pairs_2B.shape[1]
        likelihood, balance, purity = (total_3 / len(self.targets_N)).tolist()
        return likelihood, balance, purity

    def step(self, pairs_2B: Tensor) -> Tensor:
        """Do one update, and return the three losses, shape (3,)."""
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

    def evaluate(self) -> tuple[float, int, int]:
        """Return balancedness, number of good clusters and size of the largest cluster over all examples."""
        assigned = self.filter.assign(self.features_ND)
        sizes_K, purity_K = tally_clusters(assigned.clusters_N, self.targets_N, self.filter.clusters, self.num_classes)
        good_K = (purity_K > self.settings.min_purity) & (sizes_K > self.settings.min_size)
        return float(imbalance(assigned.usage_K)), int(good_K.sum()), int(sizes_K.max())


def _diverged(level: int, epoch: int, settings: FilterSettings) -> InputError:
    return InputError(
        f"the flow filter of level {level + 1} diverged in epoch {epoch + 1} of {settings.epochs}; use a lower "
        f"learning rate than `lr` = {settings.lr}"
        + ("" if settings.standardize else ", or standardize the features (`standardize`: true)")
        + (", or clip the gradients (`max_norm`: 1.0)" if settings.max_norm is None else "")
    )


def _check(flow_filter: FlowFilter, features_ND: Tensor, targets_N: Tensor) -> None:
    if features_ND.ndim != 2 or features_ND.shape[1] != flow_filter.embedding_dim:
        raise InputError(
            f"the filter takes features of shape (N, {flow_filter.embedding_dim}), got {tuple(features_ND.shape)}; "
            "build it with the embedding dimension of the backbone"
        )
    if targets_N.shape != features_ND.shape[:1]:
        raise InputError(f"labels must have shape ({len(features_ND)},), one per feature, got {tuple(targets_N.shape)}")
    if targets_N.is_floating_point() or (len(targets_N) and int(targets_N.min()) < 0):
        raise InputError("labels must be integers >= 0; pass int64 class indices")
    present = len(torch.bincount(targets_N.cpu()).nonzero())
    if present < 2:
        raise InputError(
            f"a filter is trained on pairs of two classes, but the {len(targets_N)} remaining examples have {present}; "
            "use fewer levels, or a smaller share at each"
        )
    finite_N = torch.isfinite(features_ND).all(dim=1)
    if not bool(finite_N.all()):
        bad = torch.nonzero(~finite_N).flatten().tolist()
        raise InputError(f"{len(bad)} of {len(features_ND)} features are NaN or infinite, rows:\n{first_ten(bad)}")


def fit_classifier(
    classifier: nn.Module,
    inputs: Callable[[Tensor], Tensor],
    targets_T: Tensor,
    loss: Loss,
    settings: ClassifierSettings,
    *seed: int | str,
    on_epoch: Callable[[], None] | None = None,
) -> float:
    """Train a classifier in place on features in memory, and return its mean loss over the last epoch.

    Args:
        classifier: A module (B, D) -> (B, C), on the device of the labels.
        inputs: Function from indices in [0, T), shape (B,), to the inputs of these examples, shape (B, D). The inputs
            of all examples need not be in memory at once.
        targets_T: Labels, shape (T,).
        loss: Loss of logits and labels.
        settings: Length, batch size and learning rate.
        *seed: Seed of the order of each epoch, any number of parts.
        on_epoch: Function called after each epoch. It may raise to stop the training.

    Raises:
        InputError: If the loss is not finite.

    Example:
        >>> from longtail.losses import CrossEntropy
        >>> x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
        >>> fit_classifier(nn.Linear(1, 2), x.__getitem__, y, CrossEntropy([1, 1]), ClassifierSettings(lr=1.0)) < 0.1
        True
    """
    optimizer = torch.optim.SGD(classifier.parameters(), lr=settings.lr)
    loss = loss.to(targets_T.device)
    with progress_bar("classifier", settings.epochs) as bar:
        for epoch in range(settings.epochs):
            loss.set_progress(epoch / settings.epochs)
            order_T = torch.randperm(len(targets_T), generator=generator("order", *seed, epoch))
            total = torch.zeros((), device=targets_T.device)
            for picked_B in torch.split(order_T.to(targets_T.device), settings.batch_size):
                value = loss(classifier(inputs(picked_B)), targets_T[picked_B])
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                total += value.detach() * len(picked_B)
            mean = float(total) / len(targets_T)
            if not mean < float("inf"):
                raise InputError(
                    f"the loss of a classifier is not finite in epoch {epoch + 1} of {settings.epochs}; use a lower "
                    f"learning rate than `lr` = {settings.lr}"
                )
            bar.advance()
            bar.note(f"loss {mean:.3f}")
            if on_epoch is not None:
                on_epoch()
    return mean
