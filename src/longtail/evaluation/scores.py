"""Every number of a result, from logits or from predicted labels alone.

Shapes: N = examples, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.evaluation import metrics
from longtail.evaluation.calibration import confidences, reliability_by_group
from longtail.evaluation.checks import Array, check_lengths, checked_labels, checked_logits
from longtail.evaluation.metrics import Groups
from longtail.evaluation.priors import Prior, example_weights


@dataclass(frozen=True)
class Scores:
    """What a test says about a classifier. All in percent; None where there is nothing to measure it on.

    Args:
        top1: share of the test images recognised.
        balanced: mean of the per-class accuracies.
        many: mean of the per-class accuracies of the classes with many training images.
        medium: of those between.
        few: of those with few.
        mcc: Matthews correlation, in [-100, 100].
        nmi: normalized mutual information of predicted and true labels.
        ece: expected calibration error, 15 bins; None where only labels are known.
        macro_f1: mean F1 over the classes.
        g_mean: geometric mean of the per-class accuracies.
        worst: accuracy of the worst class.
        ece_many: calibration error on the test images of the classes with many training images.
        ece_medium: of those between.
        ece_few: of those with few.
        per_class: accuracy of each class, in the order of the labels; None for a class without a test image.
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
    per_class: tuple[float | None, ...]

    def summary(self) -> dict[str, float | None]:
        """The eight numbers that most tables show."""
        return {field.name: getattr(self, field.name) for field in fields(self)[:8]}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and None, ready for JSON."""
        return {**asdict(self), "per_class": list(self.per_class)}


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
    """Score logits against labels.

    Args:
        logits: any floating type and device, shape (N, C).
        targets: true labels in [0, C), shape (N,).
        class_counts: *training* images per class, shape (C,): they make the groups.
        many: a class with more training images than this is "many".
        few: a class with fewer training images than this is "few".
        groups: "fixed" uses `many` and `few`; "quantile" takes thirds of the classes.
        prior: scores under another test prior, shape (C,): each example counts as much as makes its class that share.
            None takes the test set as it is. A class with share 0 counts as absent from the test.

    Raises:
        InputError: for shapes that do not fit, labels out of range, NaN logits, or a prior that is none.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])
        >>> scores = evaluate_logits(logits, torch.tensor([0, 1, 2]), [500, 50, 5])
        >>> scores.many, scores.medium, scores.few
        (100.0, 100.0, 0.0)
        >>> round(evaluate_logits(logits, torch.tensor([0, 1, 2]), [500, 50, 5], prior=[0.8, 0.1, 0.1]).top1, 6)
        90.0
    """
    counts = ClassCounts(class_counts)
    targets_N = checked_labels(targets, len(counts), "targets")
    confidence_N, predicted_N = confidences(checked_logits(logits, len(targets_N), len(counts)))
    masks = metrics.shot_groups(counts, many, few, groups)
    return _scores(predicted_N, confidence_N, targets_N, masks, prior)


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
    """Score predicted labels against true ones; what needs confidences (`ece` and its like) is None.

    Args:
        predicted: labels in [0, C), shape (N,).
        targets: true labels in [0, C), shape (N,).
        class_counts: as for `evaluate_logits`, and so the rest.
        many: a class with more training images than this is "many".
        few: a class with fewer training images than this is "few".
        groups: "fixed" or "quantile".
        prior: of the test, shape (C,); None takes it as it is.

    Raises:
        InputError: for lengths that differ, labels out of range, or a prior that is none.

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
    return _scores(predicted_N, None, targets_N, masks, prior)


def _scores(
    predicted_N: Tensor,
    confidence_N: Tensor | None,
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
    assert balanced is not None  # there is an example, and so a class
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
        per_class=tuple(None if math.isnan(value) else value for value in per_class_C.tolist()),
    )
