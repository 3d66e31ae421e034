"""All scores of a result, from logits or predicted labels, also under another test prior.

Forward and backward long-tailed test priors, and the shift of logits to a known test prior, are from Hong et al.,
"Disentangling Label Distribution for Long-tailed Visual Recognition" (LADE), CVPR 2021,
https://arxiv.org/abs/2012.00321. SADE (Zhang et al., NeurIPS 2022, https://arxiv.org/abs/2107.09249) uses the same
protocol. Both papers sample a test set with that prior; here the examples of the given test set are weighted instead,
which discards no example and adds no sampling noise.

Shapes: N = examples, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, unknown_name
from longtail.evaluation import metrics
from longtail.evaluation.calibration import confidences, reliability_by_group
from longtail.evaluation.checks import Array, as_tensor, check_lengths, checked_labels, checked_logits
from longtail.evaluation.metrics import Groups

Direction = Literal["forward", "backward"]
Prior = ClassCounts | Array | Sequence[float]

_OPTIONAL = ("many", "medium", "few", "ece", "ece_many", "ece_medium", "ece_few", "top5")


@dataclass(frozen=True)
class Scores:
    """Test scores of a classifier, in percent; None if the test set has nothing to compute a score from.

    Args:
        top1: Accuracy.
        balanced: Balanced accuracy, the mean per-class accuracy.
        many: Mean per-class accuracy of the classes with many training images.
        medium: Mean per-class accuracy of the classes between.
        few: Mean per-class accuracy of the classes with few training images.
        mcc: Matthews correlation coefficient, in [-100, 100].
        nmi: Normalized mutual information of predicted and true labels.
        ece: Expected calibration error with 15 bins; None without confidences.
        macro_f1: Mean F1 over classes.
        g_mean: Geometric mean of the per-class accuracies.
        worst: Lowest per-class accuracy.
        ece_many: Expected calibration error on the test images of the classes with many training images.
        ece_medium: Expected calibration error on the test images of the classes between.
        ece_few: Expected calibration error on the test images of the classes with few training images.
        top5: Share of the examples whose class is among the five largest logits; None without logits, and for fewer
            than six classes.
        per_class: Accuracy of each class, in the order of the labels; None for a class without a test image.
    """

    top1: float
    balanced: float
    many: float | None
    medium: float | None
    few: float | None
    mcc: float
    nmi: float
    ece: float | None
    macro_f1: float
    g_mean: float
    worst: float
    ece_many: float | None
    ece_medium: float | None
    ece_few: float | None
    top5: float | None
    per_class: tuple[float | None, ...]

    def __str__(self) -> str:
        """Return the eight scores that most tables show, with one decimal.

        Example:
            >>> print(evaluate_predictions(torch.tensor([0, 1]), torch.tensor([0, 0]), [500, 5]))
            top1 50.0, balanced 50.0, many 50.0, mcc 0.0, nmi 0.0
        """
        return ", ".join(f"{name} {value:.1f}" for name, value in self.summary().items() if value is not None)

    def summary(self) -> dict[str, float | None]:
        """Return the eight scores that most tables show, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)[:8]}

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as numbers, lists and None, as in the section "test" of result.json."""
        return {**asdict(self), "per_class": list(self.per_class)}

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> Scores:
        """Build scores from the section "test" of a result.json, the inverse of `to_dict`.

        Args:
            mapping: Scores by name. Unknown names are ignored. Only `top1` is required; a missing score becomes None,
                or NaN if the score always has a value, and missing per-class accuracies become empty.

        Raises:
            InputError: If `top1` is missing, or a value is not a number.

        Example:
            >>> scores = evaluate_predictions(torch.tensor([0, 1]), torch.tensor([0, 0]), [500, 5])
            >>> Scores.from_dict(scores.to_dict()) == scores
            True
            >>> Scores.from_dict({"top1": 50}).few is None
            True
        """
        if not isinstance(mapping, Mapping) or mapping.get("top1") is None:
            raise InputError(f"scores must be a mapping with at least `top1`, got {_shortened(mapping)}")
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)[:-1]):
            missing = None if name in _OPTIONAL else math.nan
            value = mapping.get(name)
            values[name] = missing if value is None else _number(name, value)
        per_class = mapping.get("per_class") or ()
        if not isinstance(per_class, list | tuple):
            raise InputError(f"`per_class` of scores must be a list, got {_shortened(per_class)}")
        numbers = (None if value is None else _number("per_class", value) for value in per_class)
        return cls(**values, per_class=tuple(numbers))


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"`{name}` of scores must be a number or null, got {_shortened(value)}")
    return float(value)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def evaluate_logits(
    logits: Array,
    targets: Array,
    class_counts: Countable,
    *,
    many: int = 100,
    few: int = 20,
    groups: Groups = "fixed",
    prior: Prior | None = None,
) -> Scores:
    """Score logits, or predicted labels, against true labels.

    Args:
        logits: Logits as a tensor, array or nested list, any float type and device, shape (N, C). Integers of shape
            (N,) are predicted labels, scored with `evaluate_predictions`.
        targets: True labels in [0, C), shape (N,).
        class_counts: Training (not test) images per class, shape (C,), which define the groups.
        many: A class with more training images than this is "many"; default 100.
        few: A class with fewer training images than this is "few"; default 20.
        groups: "fixed" (default) uses `many` and `few`; "quantile" takes thirds of the classes by rank instead.
        prior: Test prior to score under, shape (C,): examples are weighted so that each class has this share. None
            (default) uses the test set as it is. A class with share 0 counts as absent from the test set.

    Raises:
        InputError: If shapes do not fit, a label is out of range, a logit is NaN, or the prior is invalid.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])
        >>> scores = evaluate_logits(logits, torch.tensor([0, 1, 2]), [500, 50, 5])
        >>> scores.many, scores.medium, scores.few
        (100.0, 100.0, 0.0)
        >>> round(evaluate_logits(logits, torch.tensor([0, 1, 2]), [500, 50, 5], prior=[0.8, 0.1, 0.1]).top1, 6)
        90.0
    """
    given = as_tensor(logits, "logits")
    if given.ndim == 1 and not given.is_floating_point():
        return evaluate_predictions(given, targets, class_counts, many=many, few=few, groups=groups, prior=prior)
    counts = ClassCounts(class_counts)
    if given.ndim == 2 and given.shape[1] != len(counts):
        wanted = (len(given), len(counts))
        raise InputError(
            f"logits must have the shape {wanted}, one row per target and one column per class count, got "
            f"{tuple(given.shape)}"
        )
    targets_N = checked_labels(targets, len(counts), "targets")
    logits_NC = checked_logits(given, len(targets_N), len(counts))
    confidence_N, predicted_N = confidences(logits_NC)
    masks = metrics.shot_groups(counts, many, few, groups)
    within_5_N = metrics.within_top_k(logits_NC, targets_N, 5) if len(counts) > 5 else None
    return _scores(predicted_N, confidence_N, within_5_N, targets_N, masks, prior)


def evaluate_predictions(
    predicted: Array,
    targets: Array,
    class_counts: Countable,
    *,
    many: int = 100,
    few: int = 20,
    groups: Groups = "fixed",
    prior: Prior | None = None,
) -> Scores:
    """Score predicted labels against true labels; scores that need confidences (`ece` and others) are None.

    Args:
        predicted: Predicted labels in [0, C), shape (N,).
        targets: True labels in [0, C), shape (N,).
        class_counts: Training (not test) images per class, shape (C,), which define the groups.
        many: A class with more training images than this is "many"; default 100.
        few: A class with fewer training images than this is "few"; default 20.
        groups: "fixed" (default) or "quantile", see `evaluate_logits`.
        prior: Test prior to score under, shape (C,). None (default) uses the test set as it is.

    Raises:
        InputError: If lengths differ, a label is out of range, or the prior is invalid.

    Example:
        >>> import torch
        >>> evaluate_predictions(torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1]), [500, 5]).per_class
        (100.0, 50.0)
    """
    counts = ClassCounts(class_counts)
    targets_N = checked_labels(targets, len(counts), "targets")
    predicted_N = checked_labels(predicted, len(counts), "predicted labels")
    check_lengths(predicted_N, targets_N)
    masks = metrics.shot_groups(counts, many, few, groups)
    return _scores(predicted_N, None, None, targets_N, masks, prior)


def _scores(
    predicted_N: Tensor,
    confidence_N: Tensor | None,
    within_5_N: Tensor | None,
    targets_N: Tensor,
    groups: Mapping[str, Tensor],
    prior: Prior | None,
) -> Scores:
    num_classes = len(groups["many"])
    weights_N = None if prior is None else example_weights(targets_N, prior, num_classes)
    counts = metrics.tally(predicted_N, targets_N, num_classes, weights_N)
    per_class_C = metrics.per_class_accuracy(counts)
    shots = {name: metrics.mean_accuracy(per_class_C, members_C) for name, members_C in groups.items()}
    balanced = metrics.mean_accuracy(per_class_C)
    assert balanced is not None  # there is at least one example
    ece: dict[str, float | None] = dict.fromkeys(("all", "many", "medium", "few"))
    if confidence_N is not None:
        correct_N = predicted_N == targets_N
        bins = reliability_by_group(confidence_N, correct_N, targets_N, groups, weights_N=weights_N)
        ece = {name: found.ece for name, found in bins.items()}
    return Scores(
        top1=metrics.top1_accuracy(counts),
        balanced=balanced,
        many=shots["many"],
        medium=shots["medium"],
        few=shots["few"],
        mcc=metrics.matthews_correlation(counts),
        nmi=metrics.normalized_mutual_information(predicted_N, targets_N, num_classes, weights_N),
        ece=ece["all"],
        macro_f1=metrics.macro_f1(counts),
        g_mean=metrics.geometric_mean(per_class_C),
        worst=metrics.worst_accuracy(per_class_C),
        ece_many=ece["many"],
        ece_medium=ece["medium"],
        ece_few=ece["few"],
        top5=None if within_5_N is None else metrics.weighted_share(within_5_N, weights_N),
        per_class=tuple(None if math.isnan(value) else value for value in per_class_C.tolist()),
    )


def long_tailed_prior(classes: int | Countable, imbalance_factor: float, direction: Direction = "forward") -> Tensor:
    """Compute a test prior that decreases geometrically, in the order of the training classes or in reverse.

    Args:
        classes: Training images per class, whose order by size the prior follows (ties in class order). An integer is
            the number of classes, with class 0 the most frequent and the last the least frequent.
        imbalance_factor: Largest over smallest share, >= 1; 1 gives the uniform prior.
        direction: "forward" (default) gives the largest share to the most frequent training class, "backward" to the
            least frequent.

    Returns:
        Shares, shape (C,), float64, sum one.

    Raises:
        InputError: If there are fewer than two classes, the factor is below 1, or the direction is unknown.

    Example:
        >>> long_tailed_prior([5, 500, 50], 4)
        tensor([0.1429, 0.5714, 0.2857], dtype=torch.float64)
        >>> long_tailed_prior(3, 4, "backward")
        tensor([0.1429, 0.2857, 0.5714], dtype=torch.float64)
    """
    if direction not in get_args(Direction):
        raise unknown_name("direction", direction, get_args(Direction))
    if not imbalance_factor >= 1:
        raise InputError(f"`imbalance_factor` of a prior must be >= 1, got {imbalance_factor}")
    if isinstance(classes, int):
        if classes < 2:
            raise InputError(f"a prior needs at least two classes, got {classes}")
        order_C = torch.arange(classes)
    else:
        order_C = ClassCounts(classes).counts.argsort(descending=True, stable=True)
    steps_C = torch.linspace(0, 1, len(order_C), dtype=torch.float64)
    shares_C = torch.empty_like(steps_C)
    shares_C[order_C] = imbalance_factor ** (-steps_C if direction == "forward" else steps_C)
    return shares_C / shares_C.sum()


def checked_prior(prior: Prior, num_classes: int, what: str = "prior") -> Tensor:
    """Check a prior and normalize it to sum one, so that counts are accepted too.

    Args:
        prior: Shares or counts >= 0, shape (C,).
        num_classes: Number of classes C.
        what: Name of the prior in messages.

    Returns:
        Shares, shape (C,), float64, on the CPU.

    Raises:
        InputError: For another shape, a share that is negative or not finite, or zeros only.
    """
    values = prior.counts if isinstance(prior, ClassCounts) else as_tensor(prior, f"the {what}")
    prior_C = values.detach().cpu().double()
    if prior_C.shape != (num_classes,):
        raise InputError(f"the {what} must have one share per class, ({num_classes},), got {tuple(prior_C.shape)}")
    if not bool((prior_C.isfinite() & (prior_C >= 0)).all()) or not prior_C.sum() > 0:
        raise InputError(f"the {what} must have finite shares >= 0, not all zero, got {prior_C.tolist()[:10]}")
    return prior_C / prior_C.sum()


def example_weights(targets_N: Tensor, prior: Prior, num_classes: int) -> Tensor:
    """Compute example weights under which the test set has a given prior.

    Args:
        targets_N: Labels in [0, C), shape (N,), on the CPU.
        prior: Share of each class, shape (C,). The shares of classes without a test image are distributed over the
            others in proportion.
        num_classes: Number of classes C.

    Returns:
        Prior over the share of the class in the test set, shape (N,), float64, mean one.

    Raises:
        InputError: If the prior is invalid, or zero for every class of the test set.

    Example:
        >>> example_weights(torch.tensor([0, 0, 0, 1]), [0.5, 0.5], 2)
        tensor([0.6667, 0.6667, 0.6667, 2.0000], dtype=torch.float64)
    """
    prior_C = checked_prior(prior, num_classes, "test prior")
    present_C = torch.bincount(targets_N, minlength=num_classes)
    kept_C = torch.where(present_C > 0, prior_C, 0.0)
    if not kept_C.sum() > 0:
        raise InputError("the test prior is zero for every class that has a test image; set a positive share for one")
    per_example_C = kept_C / kept_C.sum() * len(targets_N) / present_C.clamp(min=1)
    return per_example_C[targets_N]


def adjust_to_prior(logits: Tensor, model_prior: Prior, test_prior: Prior) -> Tensor:
    """Shift logits to a known test prior: + log(test prior) - log(model prior), the inference of LADE.

    Args:
        logits: Logits, any float type, shape (N, C).
        model_prior: Label distribution that the softmax of the model assumes, shape (C,): the training prior for plain
            cross-entropy, uniform for Balanced Softmax or already adjusted logits.
        test_prior: Label distribution of the test set, shape (C,). A class with share 0 is excluded (-inf).

    Returns:
        Logits of the same shape, type and device.

    Raises:
        InputError: If a prior is invalid, or the model prior is zero for a class of the test prior.

    Example:
        >>> adjust_to_prior(torch.zeros(1, 2), [0.9, 0.1], [0.5, 0.5]).softmax(1)
        tensor([[0.1000, 0.9000]])
    """
    if logits.ndim != 2 or not logits.is_floating_point():
        raise InputError(f"logits must be floating point of shape (N, C), got {logits.dtype} {tuple(logits.shape)}")
    model_C = checked_prior(model_prior, logits.shape[1], "model prior")
    test_C = checked_prior(test_prior, logits.shape[1], "test prior")
    impossible_C = (model_C == 0) & (test_C > 0)
    if impossible_C.any():
        raise InputError(
            f"the model prior is 0 for class {int(impossible_C.nonzero()[0])}, whose test prior is positive; no finite "
            "shift reaches it, so set a small positive share"
        )
    shift_C = torch.where(test_C > 0, test_C.log() - model_C.log(), -torch.inf)
    return logits + shift_C.to(logits)
