"""Settings of DLSA (Xu et al., ECCV 2022), with the published defaults.

The defaults are those for ImageNet-LT in Sec. 5 of the supplement and in the authors' code (`silicx/DLSA`).
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from longtail import losses
from longtail.component import Component
from longtail.errors import InputError, unknown_name
from longtail.losses.base import Loss
from longtail.posthoc.dlsa.head import DLSAHead, Kind
from longtail.ranges import check_ranges, ranged

Prior = Literal["subset", "mixed", "whole"]


@dataclass(frozen=True)
class FilterSettings:
    """Training settings of a flow filter: stochastic gradient descent on pairs of examples at a constant rate.

    Args:
        epochs: Number of epochs; an epoch has as many pairs as there are examples.
        batch_size: Maximum number of pairs in a batch.
        lr: Learning rate.
        likelihood_weight: Weight (lambda) of the class-weighted likelihood.
        balance_weight: Weight (lambda) of the cluster balance.
        purity_weight: Weight (lambda) of the cluster purity.
        power: Exponent q of the inverse class frequency in the likelihood.
        momentum: Momentum eta of the moving average of the cluster shares, in [0, 1).
        margin: Lower bound of the probabilities in the purity loss, in (0, 1]. None means no bound.
        max_norm: Maximum norm of the gradient. Needed for data with few classes and many dimensions. None disables
            clipping, as in the authors' code.
        min_purity: A cluster is good if the share of its most frequent class exceeds this.
        min_size: A cluster is good only if it has more examples than this.
        max_size: An epoch is kept only if its largest cluster has fewer examples than this.
        standardize: Whether to standardize each dimension of the features first, so that one learning rate fits
            features of any scale. False uses them as they are, as in the authors' code.

    Raises:
        InputError: If a number is out of range.

    Example:
        >>> FilterSettings(epochs=30, purity_weight=0.05).lr
        0.2
    """

    epochs: int = ranged(50, at_least=1)
    batch_size: int = ranged(1024, at_least=1)
    lr: float = ranged(0.2, above=0)
    likelihood_weight: float = ranged(2.0, at_least=0)
    balance_weight: float = ranged(1.0, at_least=0)
    purity_weight: float = ranged(0.02, at_least=0)
    power: float = ranged(2.0, at_least=0)
    momentum: float = ranged(0.7, at_least=0, below=1)
    margin: float | None = ranged(None, above=0, at_most=1)
    max_norm: float | None = ranged(1.0, above=0, infinite=True)
    min_purity: float = ranged(0.7, at_least=0, at_most=1)
    min_size: int = ranged(10, at_least=0)
    max_size: int = ranged(5000, at_least=1)
    standardize: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ClassifierSettings:
    """Training settings of each classifier: stochastic gradient descent at a constant rate, without momentum.

    Args:
        epochs: Number of epochs over the examples of its group.
        batch_size: Number of examples in a batch.
        lr: Learning rate. The authors use 1e-2 for features of networks trained with cross-entropy and 1e-4 for PaCo
            features, on two layers whose outputs are summed. The single layer here needs twice the rate.

    Raises:
        InputError: If a number is not positive.
    """

    epochs: int = ranged(150, at_least=1)
    batch_size: int = ranged(128, at_least=1)
    lr: float = ranged(2e-2, above=0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class DLSASettings:
    """Structure and training of a DLSA classifier. The defaults are those of the paper for ImageNet-LT.

    Args:
        levels: Number of filters M in the chain. The authors use 3 for strong features (PaCo) and 1 for others.
        share: Share of the remaining examples that each level takes, most likely first, in (0, 1).
        clusters: Number of clusters K of each filter.
        blocks: Number of blocks in the flow of each filter.
        sigma: Standard deviation of the cluster centers in each dimension.
        flow: Training settings of the filters.
        loss: Class of `longtail.losses`, built for each classifier with the class counts selected by `prior`.
        prior: Class counts for the loss. "subset" counts the examples that the classifier is trained on. "whole" counts
            all training examples; it is correct for a balanced test set, because a split by features leaves n_c as the
            factor between training and test distribution. "mixed" is the authors' code: "subset" for cluster-aided
            classifiers, "whole" for the regular one.
        classifier: "linear", or "cosine" (scale 16, inputs of small norm squashed).
        learning: Training settings of the classifiers.
        initialize: "new" starts the classifiers from random weights, "keep" from the present linear head, with zero
            weights for the cluster histogram.

    Raises:
        InputError: If a number is out of range or a name is unknown.

    Example:
        >>> DLSASettings(levels=3).flow.epochs
        50
    """

    levels: int = ranged(1, at_least=0)
    share: float = ranged(0.3, above=0, below=1)
    clusters: int = ranged(500, at_least=1)
    blocks: int = ranged(2, at_least=1)
    sigma: float = ranged(0.05, above=0)
    flow: FilterSettings = field(default_factory=FilterSettings)
    loss: Component = field(default_factory=lambda: Component("BalancedSoftmax"))
    prior: Prior = "subset"
    classifier: Kind = "linear"
    learning: ClassifierSettings = field(default_factory=ClassifierSettings)
    initialize: Literal["new", "keep"] = "new"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.prior not in get_args(Prior):
            raise unknown_name("prior of DLSA", self.prior, get_args(Prior))
        loss = self.loss.check(losses)
        own = isinstance(loss, type) and issubclass(loss, Loss)
        if own and (loss.expects_cosines or loss.uses_embeddings):
            raise InputError(
                f"{self.loss.name} needs cosines or embeddings, but the classifiers of DLSA pass only logits to their "
                "loss; choose another `loss`"
            )
        if self.initialize == "keep" and self.classifier != "linear":
            raise InputError('a cosine classifier cannot start from a linear head; set `initialize` to "new"')
        with torch.random.fork_rng(devices=[]):
            DLSAHead(2, 2, **self.head_options)  # checks the remaining options

    @property
    def head_options(self) -> dict[str, Any]:
        """Options of the `DLSAHead`."""
        names = ("levels", "clusters", "blocks", "sigma", "classifier")
        return {name: getattr(self, name) for name in names}
