"""DLSA: the label space split, level by level, by flow filters on frozen features.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. At each level a filter learns to find rare classes likely; the likeliest share of the
examples still in play goes to a classifier of its own, which is told the class histogram of each example's cluster, and
the rest to the next level: so every classifier faces a more balanced problem. `longtail.models.DLSAHead` predicts.
Where we differ from the authors' code (`silicx/DLSA`):
- it keeps the epoch of each classifier that is best on the test set; here the last stands.
- its cluster-aided classifiers balance by the counts of the examples that their level took, its regular one by those of
  the whole training set; here each goes by what it is trained on, unless `prior` says otherwise.
- a class of which a classifier sees nothing counts as if it had one example (1e-6 there, a mask in all but name).
- the threshold lies halfway between the two examples that it parts, so that rounding decides nothing.
- a cluster without a training example has the class shares of all of them (no share of any class there).
Shapes: N = examples, Q = examples still in play, T = examples of a group, B = batch, D = embedding dimension, C =
classes, M = levels, K = clusters.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail import losses
from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, unknown_name
from longtail.posthoc.base import PostHoc, check_features
from longtail.posthoc.dlsa.flow import FilterHistory, FilterSettings, FlowFilter, train_filter
from longtail.posthoc.dlsa.group_classifier import ClassifierSettings, fit_classifier
from longtail.posthoc.dlsa.head import DLSAHead, Kind

Prior = Literal["subset", "mixed", "whole"]


@dataclass(frozen=True)
class DLSASettings:
    """What a DLSA classifier is made of, and how it learns. The defaults are the paper's for ImageNet-LT.

    Args:
        levels: M, filters in a chain; the authors take 3 for strong features (PaCo's) and 1 for others.
        share: of the examples still in play that each level takes, the likeliest first.
        clusters: K, of each filter.
        blocks: of each filter's flow.
        sigma: spread of the clusters' centres in each dimension.
        flow: how the filters learn.
        loss: class of `longtail.losses`, built for each classifier with the class counts that `prior` names.
        prior: "subset" counts the examples that the classifier is trained on; "whole" all training examples, which is
            right where the test is balanced, because a split by features leaves n_c as the factor between training and
            test; "mixed" is the authors' code: "subset" for cluster-aided classifiers, "whole" for the regular one.
        classifier: "linear", or "cosine" (scale 16, short inputs squashed).
        learning: how the classifiers learn.
        initialize: "new" starts them from random weights, "keep" from the present head, with no say for the clusters.

    Raises:
        InputError: for a number out of range or an unknown name.
    """

    levels: int = 1
    share: float = 0.3
    clusters: int = 500
    blocks: int = 2
    sigma: float = 0.05
    flow: FilterSettings = field(default_factory=FilterSettings)
    loss: Component = field(default_factory=lambda: Component("BalancedSoftmax"))
    prior: Prior = "subset"
    classifier: Kind = "linear"
    learning: ClassifierSettings = field(default_factory=ClassifierSettings)
    initialize: Literal["new", "keep"] = "new"

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"share must lie between 0 and 1 (0.3 in the paper), not {self.share}")
        if self.prior not in get_args(Prior):
            raise unknown_name("prior of DLSA", self.prior, get_args(Prior))
        loss = self.loss.check(losses)
        if getattr(loss, "expects_cosines", False) or getattr(loss, "uses_embeddings", False):
            raise InputError(
                f"the classifiers of DLSA give a loss their logits alone, which {self.loss.name} can not use"
            )
        if self.initialize == "keep" and self.classifier != "linear":
            raise InputError('a cosine classifier has no bias to take over from a linear one; say initialize: "new"')
        with torch.random.fork_rng(devices=[]):
            DLSAHead(2, 2, **self.head_options)  # which refuses what it can not be made of

    @property
    def head_options(self) -> dict[str, Any]:
        """Options of the `DLSAHead`."""
        names = ("levels", "clusters", "blocks", "sigma", "classifier")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Group:
    """What came of one group of examples: those that a level took, or those that none did.

    Args:
        level: from 0; M for the regular classifier.
        in_play: examples that no earlier level took.
        taken: examples of the group.
        loss: of its classifier, mean over the last epoch.
        history: of its filter; None for the regular classifier.
    """

    level: int
    in_play: int
    taken: int
    loss: float
    history: FilterHistory | None


class DLSA(PostHoc):
    """Splits the examples by flow filters, and trains a classifier for each group, on frozen features.

    Unlike the other corrections it trains, for minutes on large data; `longtail.stages.Filter` does the same within a
    run that can be stopped.

    Args:
        settings: what it is made of, and how it learns.
        seed: of all that is random about it; the global random numbers are left alone.

    Example:
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
        self.settings, self.seed = settings or DLSASettings(), seed
        self.component = Component("DLSAHead", self.settings.head_options)

    @property
    def needs_holdout(self) -> bool:
        """Nothing is chosen."""
        return False

    def fit(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        head: nn.Linear | None = None,
        class_counts: Countable | None = None,
    ) -> Self:
        """Train the filters and the classifiers.

        Args:
            features_ND: embeddings of the training images, shape (N, D), any float type.
            targets_N: their labels in [0, C), shape (N,).
            head: the trained last layer, from which `initialize: keep` starts; else not looked at.
            class_counts: training images per class; None counts the labels.

        Raises:
            InputError: for features and labels that do not fit each other or the head, too few examples for the number
                of levels, or a training that diverges.
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
        """Do what `fit` does group by group, so that the state can be saved in between.

        Args:
            features_ND: as of `fit`, and so the next three.
            targets_N: labels.
            head: the trained last layer.
            class_counts: training images per class.
            saved: the state of `self.head` after the first `done` groups, to go on from.
            done: how many groups `saved` holds.
            on_epoch: called after each epoch of a filter or a classifier; may raise, to stop.

        Returns:
            An iterator of what came of each group, as soon as `self.head` has it.
        """
        task = _Task(self.settings, self.seed, features_ND, targets_N, class_counts, on_epoch)
        self.head = task.fresh_head(head)
        if saved is not None:
            self.head.load_state_dict(saved)
        for level in range(done, self.settings.levels + 1):
            with torch.enable_grad():
                group = task.fit_group(self.head, level)
            self.head.eval()
            yield group


class _Task:
    """The examples and how to learn from them."""

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
                f"DLSA needs features (N, D) and N >= 1 labels, not {tuple(features_ND.shape)} and {len(targets_N)}"
            )
        if not isinstance(targets_N, Tensor) or targets_N.is_floating_point() or int(targets_N.min()) < 0:
            raise InputError("labels must be whole numbers >= 0; give int64 class indices")
        if not bool(features_ND.isfinite().all()):
            raise InputError("a feature is NaN or infinite; look into the net or the file that they come from")
        self.settings, self.seed, self.on_epoch = settings, seed, on_epoch
        self.features_ND = features_ND.detach().float()
        self.targets_N = targets_N.to(features_ND.device)
        num_classes = int(targets_N.max()) + 1 if class_counts is None else len(class_counts)
        own = ClassCounts.from_targets(targets_N, num_classes)
        self.counts_C = (own if class_counts is None else ClassCounts(class_counts)).counts

    @property
    def num_classes(self) -> int:
        return len(self.counts_C)

    def fresh_head(self, start: nn.Linear | None) -> DLSAHead:
        """A head that takes nothing yet, its classifiers new or as the present one."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(randomness.key("initialise", "dlsa", self.seed))
            dim = self.features_ND.shape[1]
            head = DLSAHead(dim, self.num_classes, **self.settings.head_options, seed=self.seed)
        if self.settings.initialize == "keep":
            for classifier in (*head.aided, head.rest):
                _start_from(cast("nn.Linear", classifier), start)
        return head.to(self.features_ND.device)

    def fit_group(self, head: DLSAHead, level: int) -> Group:
        """Train the filter of a level, if it has one, and the classifier of what it takes."""
        # what is in play follows from the head alone, so that a run that was stopped sees the same
        in_play_Q = (head.route(self.features_ND).level_B == head.levels).nonzero().flatten()
        if level == head.levels:
            loss = self._fit_classifier(head.rest, self.features_ND.__getitem__, in_play_Q, level)
            return Group(level, len(in_play_Q), len(in_play_Q), loss, None)
        history = self._fit_filter(cast("FlowFilter", head.filters[level]), in_play_Q, level)
        density_N, cluster_N = head.look(level, self.features_ND)
        head.thresholds_M[level] = threshold(density_N[in_play_Q], self.settings.share)
        head.priors_MKC[level] = cluster_priors(cluster_N, self.targets_N, self.settings.clusters, self.num_classes)
        taken_T = in_play_Q[density_N[in_play_Q] >= head.thresholds_M[level]]
        if len(taken_T) == len(in_play_Q):
            raise InputError(
                f"the filter of level {level + 1} can not part the {len(in_play_Q)} examples in play: it finds all "
                "equally likely; look whether their features are the same, in the net or the file that they come from"
            )

        def inputs(rows_B: Tensor) -> Tensor:
            return head.aided_inputs(level, self.features_ND[rows_B], cluster_N[rows_B])

        loss = self._fit_classifier(head.aided[level], inputs, taken_T, level)
        return Group(level, len(in_play_Q), len(taken_T), loss, history)

    def _fit_filter(self, flow_filter: FlowFilter, in_play_Q: Tensor, level: int) -> FilterHistory:
        targets_Q = self.targets_N[in_play_Q]
        if len(targets_Q) < 2 or int(targets_Q.min()) == int(targets_Q.max()):
            raise InputError(
                f"at level {level + 1} of {self.settings.levels} {len(targets_Q)} examples are in play, of fewer than "
                "two classes; take fewer levels, or a smaller share"
            )
        seed = randomness.key("dlsa", self.seed)
        features_QD, settings = self.features_ND[in_play_Q], self.settings.flow
        return train_filter(
            flow_filter, features_QD, targets_Q, settings, seed=seed, level=level, on_epoch=self.on_epoch
        )

    def _fit_classifier(
        self, classifier: nn.Module, inputs: Callable[[Tensor], Tensor], members_T: Tensor, level: int
    ) -> float:
        """Train on the examples `members_T`; `inputs` says what the classifier sees of the examples of these rows."""
        targets_T = self.targets_N[members_T]
        whole = self.settings.prior == "whole" or (self.settings.prior == "mixed" and level == self.settings.levels)
        counts_C = self.counts_C if whole else torch.bincount(targets_T.cpu(), minlength=self.num_classes)
        loss = self.settings.loss.build(losses, counts_C.clamp(min=1))
        settings, seed = self.settings.learning, ("dlsa", self.seed, level)

        def of_group(places_B: Tensor) -> Tensor:
            return inputs(members_T[places_B])

        return fit_classifier(classifier, of_group, targets_T, loss, settings, *seed, on_epoch=self.on_epoch)


def threshold(density_Q: Tensor, share: float) -> Tensor:
    """The log-density above which that share of the examples lies, a scalar.

    At least one example lies on either side, unless the densities are equal.

    Args:
        density_Q: log p(x) of the examples in play, at least two, shape (Q,).
        share: in (0, 1).

    Example:
        >>> threshold(torch.tensor([1.0, 4.0, 2.0, 3.0]), 0.3)
        tensor(3.5000)
    """
    taken = min(max(round(share * len(density_Q)), 1), len(density_Q) - 1)
    falling_Q = density_Q.sort(descending=True).values
    return (falling_Q[taken - 1] + falling_Q[taken]) / 2


def cluster_priors(cluster_N: Tensor, targets_N: Tensor, num_clusters: int, num_classes: int) -> Tensor:
    """Share of each class (column) among the examples of each cluster (row), shape (K, C), float32.

    A cluster without an example says nothing: it has the shares of all examples.

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
    """The weights of a linear head on the embedding, and none on what stands beside it."""
    if start is None or not isinstance(start, nn.Linear) or start.out_features != classifier.out_features:
        given = "none" if start is None else f"a {type(start).__name__}"
        raise InputError(
            f"initialize: keep starts from a linear head of {classifier.out_features} classes, and was given {given}; "
            "give the trained LinearHead, or say initialize: new"
        )
    classifier.weight.zero_()
    classifier.weight[:, : start.in_features] = start.weight
    classifier.bias.zero_()
    if start.bias is not None:
        classifier.bias.copy_(start.bias)
