"""DLSA: the label space split level by level with flow filters on frozen features.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. At each level a filter is trained to give rare classes a high density. The most likely
share of the remaining examples gets a classifier of its own, whose input includes the class histogram of each example's
cluster; the rest goes to the next level. Every classifier thus faces a more balanced problem. `DLSAHead` predicts.
Differences from the authors' code (`silicx/DLSA`):

- It keeps the epoch of each classifier with the best test score; here the last epoch is used.
- Its cluster-aided classifiers balance by the class counts of their level, its regular one by those of the whole
  training set. Here each classifier uses the counts of its own training examples, unless `prior` selects others.
- A class without an example in a group counts as one example (1e-6 in their code, which amounts to a mask).
- The threshold is halfway between the two examples it separates, so that rounding has no effect.
- A cluster without a training example has the class shares of all examples (all zero in their code).

Shapes: N = examples, Q = remaining examples, T = examples of a group, B = batch, D = embedding dimension, C = classes,
M = levels, K = clusters.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, cast

import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail import losses
from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.posthoc.base import PostHoc, check_features
from longtail.posthoc.dlsa.filter import FlowFilter
from longtail.posthoc.dlsa.head import DLSAHead
from longtail.posthoc.dlsa.settings import DLSASettings
from longtail.posthoc.dlsa.training import FilterHistory, fit_classifier, train_filter
from longtail.ranges import check_number


@dataclass(frozen=True)
class Group:
    """Result for one group of examples: those that a level takes, or those that no level takes.

    Args:
        level: Index of the level, from 0; M for the regular classifier.
        in_play: Number of examples that no earlier level takes.
        taken: Number of examples of the group.
        loss: Mean loss of its classifier over the last epoch.
        history: Training history of its filter; None for the regular classifier.
    """

    level: int
    in_play: int
    taken: int
    loss: float
    history: FilterHistory | None


class DLSA(PostHoc):
    """Splits the examples with flow filters and trains a classifier for each group, on frozen features.

    Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
    https://arxiv.org/abs/2208.02567. Unlike the other corrections it is trained, for minutes on large data.
    `longtail.stages.Filter` does the same within a run that can be interrupted and resumed.

    Args:
        settings: Structure and training; by default those of the paper for ImageNet-LT.
        seed: Seed of all random draws; the global random state does not change.

    Example:
        >>> from longtail.posthoc import ClassifierSettings, FilterSettings
        >>> features, targets = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
        >>> quick = DLSASettings(clusters=5, flow=FilterSettings(epochs=2), learning=ClassifierSettings(epochs=2))
        >>> dlsa = DLSA(quick).fit(features, targets)
        >>> dlsa.predict_logits(features).shape
        torch.Size([60, 3])
        >>> torch.bincount(dlsa.head.route(features).level_B)  # a share of 0.3, and the rest
        tensor([18, 42])
    """

    fits_on: ClassVar[Literal["train", "val"]] = "train"
    head: DLSAHead

    def __init__(self, settings: DLSASettings | None = None, *, seed: int = 0) -> None:
        check_number("seed", seed, integer=True)
        self.settings, self.seed = settings or DLSASettings(), seed
        self.component = Component("DLSAHead", self.settings.head_options)

    def fit(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        head: nn.Linear | None = None,
        class_counts: Countable | None = None,
    ) -> Self:
        """Train the filters and the classifiers.

        Args:
            features_ND: Embeddings of the training images, shape (N, D), any float type.
            targets_N: Labels in [0, C), shape (N,).
            head: The trained last layer. Only used with `initialize` = "keep".
            class_counts: Training images per class, shape (C,). None (default) counts the labels.

        Raises:
            InputError: If features, labels and head do not fit together, there are too few examples for the number of
                levels, or a training diverges.
        """
        for _ in self.groups(features_ND, targets_N, head, class_counts):
            pass
        return self

    def groups(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        head: nn.Linear | None = None,
        class_counts: Countable | None = None,
        saved: Mapping[str, Tensor] | None = None,
        done: int = 0,
        on_epoch: Callable[[], None] | None = None,
    ) -> Iterator[Group]:
        """Do the work of `fit` group by group, so that the state can be saved in between.

        Args:
            features_ND: Embeddings of the training images, shape (N, D), any float type.
            targets_N: Labels in [0, C), shape (N,).
            head: The trained last layer. Only used with `initialize` = "keep".
            class_counts: Training images per class, shape (C,). None (default) counts the labels.
            saved: State dict of `self.head` after the first `done` groups, to resume from.
            done: Number of groups that `saved` contains.
            on_epoch: Function called after each epoch of a filter or a classifier. It may raise to stop.

        Yields:
            The result of each group, as soon as `self.head` contains it.
        """
        task = _Task(self.settings, self.seed, features_ND, targets_N, class_counts, on_epoch)
        self.head = task.new_head(head)
        if saved is not None:
            self.head.load_state_dict(saved)
        for level in range(done, self.settings.levels + 1):
            with torch.enable_grad():
                group = task.fit_group(self.head, level)
            self.head.eval()
            yield group


class _Task:
    """Training examples and settings, checked."""

    def __init__(
        self,
        settings: DLSASettings,
        seed: int,
        features_ND: Tensor,
        targets_N: Tensor,
        class_counts: Countable | None,
        on_epoch: Callable[[], None] | None,
    ) -> None:
        check_features(features_ND)
        if len(features_ND) != len(targets_N) or len(targets_N) == 0:
            raise InputError(
                "features must have shape (N, D), with one label for each of N >= 1 rows, got "
                f"{tuple(features_ND.shape)} and {len(targets_N)} labels"
            )
        if not isinstance(targets_N, Tensor) or targets_N.is_floating_point() or int(targets_N.min()) < 0:
            raise InputError("labels must be integers >= 0; pass an int64 tensor of class indices")
        if not bool(features_ND.isfinite().all()):
            raise InputError("features must be finite, got NaN or infinity; check the network or file they come from")
        self.settings, self.seed, self.on_epoch = settings, seed, on_epoch
        self.features_ND = features_ND.detach().float()
        self.targets_N = targets_N.to(features_ND.device)
        num_classes = int(targets_N.max()) + 1 if class_counts is None else len(class_counts)
        own = ClassCounts.from_targets(targets_N, num_classes)
        self.counts_C = (own if class_counts is None else ClassCounts(class_counts)).counts

    @property
    def num_classes(self) -> int:
        return len(self.counts_C)

    def new_head(self, start: nn.Linear | None) -> DLSAHead:
        """Build a head that takes nothing yet, with classifiers that are new or start from the present head."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key("initialise", "dlsa", self.seed))  # codespell:ignore
            dim = self.features_ND.shape[1]
            head = DLSAHead(dim, self.num_classes, **self.settings.head_options, seed=self.seed)
        if self.settings.initialize == "keep":
            for classifier in (*head.aided, head.rest):
                _start_from(cast("nn.Linear", classifier), start)
        return head.to(self.features_ND.device)

    def fit_group(self, head: DLSAHead, level: int) -> Group:
        """Train the filter of a level, if it has one, and the classifier of the examples that it takes."""
        # the remaining examples are a function of the head alone, so that a resumed run has the same
        in_play_Q = (head.route(self.features_ND).level_B == head.levels).nonzero().flatten()
        if level == head.levels:
            loss = self._fit_classifier(head.rest, self.features_ND.__getitem__, in_play_Q, level)
            return Group(level, len(in_play_Q), len(in_play_Q), loss, None)
        history = self._fit_filter(cast("FlowFilter", head.filters[level]), in_play_Q, level)
        density_N, cluster_N = head.assign(level, self.features_ND)
        head.thresholds_M[level] = threshold(density_N[in_play_Q], self.settings.share)
        head.priors_MKC[level] = cluster_priors(cluster_N, self.targets_N, self.settings.clusters, self.num_classes)
        taken_T = in_play_Q[density_N[in_play_Q] >= head.thresholds_M[level]]
        if len(taken_T) == len(in_play_Q):
            raise InputError(
                f"the filter of level {level + 1} gives all {len(in_play_Q)} remaining examples the same density; "
                "check whether their features are identical, in the network or file they come from"
            )

        def inputs(rows_B: Tensor) -> Tensor:
            return head.aided_inputs(level, self.features_ND[rows_B], cluster_N[rows_B])

        loss = self._fit_classifier(head.aided[level], inputs, taken_T, level)
        return Group(level, len(in_play_Q), len(taken_T), loss, history)

    def _fit_filter(self, flow_filter: FlowFilter, in_play_Q: Tensor, level: int) -> FilterHistory:
        targets_Q = self.targets_N[in_play_Q]
        if len(targets_Q) < 2 or int(targets_Q.min()) == int(targets_Q.max()):
            raise InputError(
                f"level {level + 1} of {self.settings.levels} has {len(targets_Q)} remaining examples of fewer than "
                "two classes; use fewer levels, or a smaller share"
            )
        seed = randomness.key("dlsa", self.seed)
        features_QD, settings = self.features_ND[in_play_Q], self.settings.flow
        return train_filter(
            flow_filter, features_QD, targets_Q, settings, seed=seed, level=level, on_epoch=self.on_epoch
        )

    def _fit_classifier(
        self, classifier: nn.Module, inputs: Callable[[Tensor], Tensor], members_T: Tensor, level: int
    ) -> float:
        """Train a classifier on the examples `members_T`, whose inputs `inputs` computes from their row indices."""
        targets_T = self.targets_N[members_T]
        whole = self.settings.prior == "whole" or (self.settings.prior == "mixed" and level == self.settings.levels)
        counts_C = self.counts_C if whole else torch.bincount(targets_T.cpu(), minlength=self.num_classes)
        loss = self.settings.loss.build(losses, counts_C.clamp(min=1))
        settings, seed = self.settings.learning, ("dlsa", self.seed, level)

        def of_group(places_B: Tensor) -> Tensor:
            return inputs(members_T[places_B])

        return fit_classifier(classifier, of_group, targets_T, loss, settings, *seed, on_epoch=self.on_epoch)


def threshold(density_Q: Tensor, share: float) -> Tensor:
    """Compute the log-density that a given share of the examples exceeds, a scalar.

    The number of examples is rounded up, as in the authors' code. At least one example is on either side, unless all
    densities are equal.

    Args:
        density_Q: Log-density log p(x) of the remaining examples, at least two, shape (Q,).
        share: Share in (0, 1).

    Example:
        >>> threshold(torch.tensor([1.0, 4.0, 2.0, 3.0]), 0.3)
        tensor(2.5000)
    """
    # tolerance: 0.3 of 90 is 27.000000000000004 for some roundings of the share
    taken = min(max(math.ceil(share * len(density_Q) - 1e-6), 1), len(density_Q) - 1)
    falling_Q = density_Q.sort(descending=True).values
    return (falling_Q[taken - 1] + falling_Q[taken]) / 2


def cluster_priors(cluster_N: Tensor, targets_N: Tensor, num_clusters: int, num_classes: int) -> Tensor:
    """Compute the share of each class (column) among the examples of each cluster (row), shape (K, C), float32.

    A cluster without an example has the shares of all examples.

    Args:
        cluster_N: Cluster of each example, shape (N,).
        targets_N: Labels in [0, C), shape (N,).
        num_clusters: Number of clusters K.
        num_classes: Number of classes C.

    Example:
        >>> cluster_priors(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1]), 3, 2)
        tensor([[0.5000, 0.5000],
                [0.3333, 0.6667],
                [0.0000, 1.0000]])
    """
    cells = torch.bincount(cluster_N * num_classes + targets_N, minlength=num_clusters * num_classes)
    counts_KC = cells.view(num_clusters, num_classes).double()
    counts_KC = torch.where(counts_KC.sum(dim=1, keepdim=True) > 0, counts_KC, counts_KC.sum(dim=0))
    return (counts_KC / counts_KC.sum(dim=1, keepdim=True)).float()


@torch.no_grad()
def _start_from(classifier: nn.Linear, start: nn.Linear | None) -> None:
    """Copy a linear head to the weights of the embedding, and set those of the cluster histogram to zero."""
    if start is None or not isinstance(start, nn.Linear) or start.out_features != classifier.out_features:
        given = "None" if start is None else f"a {type(start).__name__}"
        raise InputError(
            f'`initialize` = "keep" needs a linear head of {classifier.out_features} classes, got {given}; pass the '
            'trained LinearHead, or set `initialize` to "new"'
        )
    classifier.weight.zero_()
    classifier.weight[:, : start.in_features] = start.weight
    classifier.bias.zero_()
    if start.bias is not None:
        classifier.bias.copy_(start.bias)
