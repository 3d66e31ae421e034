"""The interface of post-hoc corrections: a new head from features and labels.

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
from longtail.ranges import check_number

STRENGTHS = torch.linspace(0, 2, 41, dtype=torch.float64)
"""Candidate strengths: 0, 0.05, ..., 2."""


class PostHoc(ABC):
    """Base class of corrections of a trained classifier. Subclasses implement `fit`, which sets `head`.

    Attributes:
        fits_on: Features that `fit` takes: "train" for the training images, "val" for held-out images.
        head: The corrected classifier, (B, D) -> (B, C); set by `fit`.
        component: Name and options of `head` in `longtail.models`.
    """

    fits_on: ClassVar[Literal["train", "val"]] = "val"
    head: nn.Module
    component: Component = Component("LinearHead")

    @abstractmethod
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Compute the corrected classifier.

        Args:
            features_ND: Embeddings (the input of the last layer), shape (N, D), any float type.
            targets_N: Labels in [0, C), shape (N,).
            head: The trained last layer.
            class_counts: Training images per class, shape (C,).

        Returns:
            The fitted correction itself.
        """

    @property
    def needs_every_class(self) -> bool:
        """Whether `fit` refuses classes without a training image."""
        return False

    @property
    def needs_holdout(self) -> bool:
        """Whether `fit` chooses an option by the score on its input, which then must not be training data."""
        return False

    @property
    def chosen(self) -> dict[str, float]:
        """Values of the options that `fit` chose, by name."""
        return {}

    @torch.no_grad()
    def predict_logits(self, features_BD: Tensor) -> Tensor:
        """Compute the corrected logits, shape (B, C).

        Args:
            features_BD: Embeddings, shape (B, D), any float type.

        Raises:
            InputError: If the correction is not fitted, or the input is not a float tensor of shape (B, D).
        """
        if not hasattr(self, "head"):
            raise InputError(f"this {type(self).__name__} is not fitted; call `fit` first")
        check_features(features_BD)
        logits_BC: Tensor = self.head(features_BD.to(next(self.head.parameters()).dtype))
        return logits_BC


def check_features(features_ND: Tensor) -> None:
    """Check that features are a matrix of floats.

    Args:
        features_ND: Embeddings, shape (N, D).

    Raises:
        InputError: If they are not a float tensor of shape (N, D).

    Example:
        >>> check_features(torch.ones(3))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: features must be a float tensor of shape (N, D), got torch.float32 (3,)
    """
    if not isinstance(features_ND, Tensor):
        raise InputError(
            f"features must be a float tensor of shape (N, D), got a {type(features_ND).__name__}; convert a NumPy "
            "array with torch.from_numpy"
        )
    if features_ND.ndim != 2 or not features_ND.is_floating_point():
        raise InputError(
            f"features must be a float tensor of shape (N, D), got {features_ND.dtype} {tuple(features_ND.shape)}"
        )


class Strength(PostHoc):
    """Base class of corrections with one strength `tau`, given or chosen by balanced accuracy on held-out images.

    Args:
        tau: Strength >= 0. None (default) chooses it in `fit`.

    Raises:
        InputError: If `tau` is negative.
    """

    meaning_of_one: ClassVar[str]
    """Meaning of tau = 1, for messages."""

    def __init__(self, *, tau: float | None = None) -> None:
        check_number("tau", tau, f"1 {self.meaning_of_one}", optional=True, at_least=0)
        self.tau, self.given = tau, tau is not None

    @property
    def needs_holdout(self) -> bool:
        """Whether `fit` chooses tau."""
        return not self.given

    @property
    def chosen(self) -> dict[str, float]:
        """The tau chosen by `fit`."""
        return {} if self.given or self.tau is None else {"tau": self.tau}


def choose_strength(logits_at: Callable[[float], Tensor], targets_N: Tensor, num_classes: int) -> float:
    """Return the value in `STRENGTHS` with the highest balanced accuracy, or the middle one of several best values.

    Args:
        logits_at: Function from a strength to logits of shape (N, C).
        targets_N: Labels, shape (N,). Classes without an example are ignored.
        num_classes: Number of classes C.

    Raises:
        InputError: If there is no example.

    Example:
        >>> choose_strength(lambda tau: torch.tensor([[1.0, tau]]), torch.tensor([1]), 2)
        1.55
    """
    if len(targets_N) == 0:
        raise InputError("cannot choose `tau` without held-out examples; pass held-out examples, or set `tau`")
    scores = torch.stack([_balanced(logits_at(float(tau)), targets_N, num_classes) for tau in STRENGTHS])
    best = torch.nonzero(scores >= scores.max() - 1e-9).flatten()
    return round(float(STRENGTHS[best[len(best) // 2]]), 2)


def _balanced(logits_NC: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Compute the mean per-class accuracy over the classes with an example."""
    tally = metrics.tally(logits_NC.argmax(dim=1).cpu(), targets_N.cpu(), num_classes)
    return metrics.per_class_accuracy(tally).nanmean()


def checked_counts(class_counts: Countable, head: nn.Linear) -> ClassCounts:
    """Return class counts after checking that they fit a head.

    Args:
        class_counts: Training images per class, shape (C,).
        head: Linear head with C outputs.

    Raises:
        InputError: If the number of classes differs.
    """
    counts = ClassCounts(class_counts)
    if len(counts) != head.out_features:
        raise InputError(f"`class_counts` must have {head.out_features} counts, as the head has, got {len(counts)}")
    return counts
