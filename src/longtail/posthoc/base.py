"""The contract of every post-hoc correction: no training, a new head from features and labels.

Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.evaluation import metrics

STRENGTHS = torch.linspace(0, 2, 41, dtype=torch.float64)
"""What a strength is chosen from: 0, 0.05, ..., 2."""


class PostHoc(ABC):
    """Corrects a trained classifier without training. Subclasses implement `fit`, which sets `head`.

    `fits_on` says which features `fit` asks for: those of the images trained on, or of held-out ones.
    """

    fits_on: ClassVar[Literal["train", "val"]] = "val"
    head: nn.Module
    """The corrected classifier, (B, D) -> (B, C); known once fitted."""
    component: Component = Component("LinearHead")
    """Name and options of `head` among the heads of `longtail.models`."""

    @abstractmethod
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Find the correction.

        Args:
            features_ND: embeddings, the input of the classifier's last layer, shape (N, D), any float type.
            targets_N: labels in [0, C), shape (N,).
            head: the trained last layer.
            class_counts: images per class that it was trained on, shape (C,).
        """

    @property
    @abstractmethod
    def needs_holdout(self) -> bool:
        """Whether `fit` chooses something by what it is given, which must then not have been trained on."""

    @property
    def chosen(self) -> dict[str, float]:
        """What `fit` has chosen, by name."""
        return {}

    @torch.no_grad()
    def predict_logits(self, features_BD: Tensor) -> Tensor:
        """Corrected logits, shape (B, C), from features of any float type.

        Raises:
            InputError: before `fit`, or for what is no tensor of shape (B, D).
        """
        if not hasattr(self, "head"):
            raise InputError(f"this {type(self).__name__} has nothing to predict with yet; call fit first")
        check_features(features_BD)
        logits_BC: Tensor = self.head(features_BD.to(next(self.head.parameters()).dtype))
        return logits_BC


def check_features(features_ND: Tensor) -> None:
    """Refuse what is no table of features.

    Raises:
        InputError: for anything but a tensor of floats, shape (N, D).

    Example:
        >>> check_features(torch.ones(3))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: features must be a tensor of floats, shape (N, D), not torch.float32 (3,)
    """
    if not isinstance(features_ND, Tensor):
        raise InputError(
            f"features must be a tensor of floats, shape (N, D), not a {type(features_ND).__name__}; an array of NumPy "
            "becomes one by torch.from_numpy"
        )
    if features_ND.ndim != 2 or not features_ND.is_floating_point():
        raise InputError(
            f"features must be a tensor of floats, shape (N, D), not {features_ND.dtype} {tuple(features_ND.shape)}"
        )


class Strength(PostHoc):
    """A correction of one strength, given or chosen by balanced accuracy on what `fit` is given: held-out images.

    Args:
        tau: the strength; None chooses it.

    Raises:
        InputError: if `tau` is negative.
    """

    one: ClassVar[str]
    """What a strength of 1 stands for, for the message about a negative one."""

    def __init__(self, *, tau: float | None = None) -> None:
        if tau is not None and not tau >= 0:
            raise InputError(f"tau must be >= 0 (1 {self.one}), not {tau}")
        self.tau, self.given = tau, tau is not None

    @property
    def needs_holdout(self) -> bool:
        """Whether tau is to be chosen."""
        return not self.given

    @property
    def chosen(self) -> dict[str, float]:
        """The tau that `fit` chose."""
        return {} if self.given or self.tau is None else {"tau": self.tau}


def choose_strength(logits_at: Callable[[float], Tensor], targets_N: Tensor, num_classes: int) -> float:
    """The strength of `STRENGTHS` with the highest balanced accuracy; among equally good ones, the middle one.

    Args:
        logits_at: logits (N, C) at a strength.
        targets_N: labels, shape (N,); a class without one does not count.
        num_classes: C.

    Raises:
        InputError: if there is no example.

    Example:
        >>> choose_strength(lambda tau: torch.tensor([[1.0, tau]]), torch.tensor([1]), 2)
        1.55
    """
    if len(targets_N) == 0:
        raise InputError("a strength is chosen on held-out examples, and there is none; give some, or a fixed tau")
    scores = torch.stack([_balanced(logits_at(float(tau)), targets_N, num_classes) for tau in STRENGTHS])
    best = torch.nonzero(scores >= scores.max() - 1e-9).flatten()
    return round(float(STRENGTHS[best[len(best) // 2]]), 2)


def _balanced(logits_NC: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Mean of the per-class accuracies over the classes that have an example."""
    tally = metrics.tally(logits_NC.argmax(dim=1).cpu(), targets_N.cpu(), num_classes)
    return metrics.per_class_accuracy(tally).nanmean()


def checked_counts(class_counts: Countable, head: nn.Linear) -> ClassCounts:
    """Class counts that fit a head.

    Raises:
        InputError: if they are of another number of classes.
    """
    counts = ClassCounts(class_counts)
    if len(counts) != head.out_features:
        raise InputError(f"the head has {head.out_features} classes, so it needs as many counts, not {len(counts)}")
    return counts
