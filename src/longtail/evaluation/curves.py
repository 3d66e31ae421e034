"""Precision, recall and false alarms of one class against the others, by the threshold of its score.

Shapes: N = examples, C = classes, K = distinct scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.checks import Array, as_tensor


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision, recall and false alarms at each threshold, from the highest score to the lowest. All in [0, 1].

    Args:
        thresholds: Distinct scores, shape (K,). An example with at least this score is predicted as positive.
        precision: Share of positives among the examples above, shape (K,).
        recall: Share of the positives above, shape (K,).
        false_alarm: Share of the negatives above, shape (K,).
    """

    thresholds: Tensor
    precision: Tensor
    recall: Tensor
    false_alarm: Tensor

    @property
    def average_precision(self) -> float:
        """Sum of the precisions, each weighted by the increase in recall at its threshold."""
        steps = torch.diff(self.recall, prepend=self.recall.new_zeros(1))
        return float((steps * self.precision).sum())


@dataclass(frozen=True)
class OperatingPoint:
    """Threshold of a class, and what it gives.

    Args:
        threshold: Smallest score that is predicted as positive; infinite if no threshold keeps the rate.
        recall: Share of the positives found, in [0, 1].
        precision: Share of positives among the predicted ones; None if nothing is predicted as positive.
        false_alarm: Share of the negatives that are predicted as positive.
    """

    threshold: float
    recall: float
    precision: float | None
    false_alarm: float


def precision_recall(scores: Array, positive: Array) -> Curve:
    """Compute the curve of a class. Examples of the same score share a point.

    Args:
        scores: Score of the class, such as its probability, shape (N,).
        positive: Whether an example is of the class, bool, shape (N,).

    Raises:
        InputError: If the shapes differ, a score is not finite, or there is no positive or no negative example.

    Example:
        >>> curve = precision_recall([0.9, 0.8, 0.7, 0.1], [True, False, True, False])
        >>> curve.recall, round(curve.average_precision, 3)
        (tensor([0.5000, 0.5000, 1.0000, 1.0000], dtype=torch.float64), 0.833)
    """
    scores_N, positive_N = as_tensor(scores, "scores").double(), as_tensor(positive, "positive").bool()
    if scores_N.shape != positive_N.shape or scores_N.ndim != 1 or not scores_N.isfinite().all():
        raise InputError(
            f"`scores` must be finite and have the shape (N,) of `positive`, got {tuple(scores_N.shape)} and "
            f"{tuple(positive_N.shape)}"
        )
    positives = int(positive_N.sum())
    if not 0 < positives < len(positive_N):
        raise InputError(f"a curve needs positive and negative examples, got {positives} positive of {len(positive_N)}")
    sorted_N, order_N = scores_N.sort(descending=True, stable=True)
    found_N = positive_N[order_N].cumsum(0)
    last_N = torch.cat([sorted_N[1:] != sorted_N[:-1], torch.ones(1, dtype=torch.bool)])
    above_N = torch.arange(1, len(sorted_N) + 1)
    found_K, above_K = found_N[last_N].double(), above_N[last_N]
    alarms_K = (above_K - found_K) / (len(sorted_N) - positives)
    return Curve(sorted_N[last_N], found_K / above_K, found_K / positives, alarms_K)


def recall_at_false_alarm(scores: Array, positive: Array, rate: float) -> OperatingPoint:
    """Return the threshold with the highest recall whose false-alarm rate does not exceed a limit.

    The threshold is chosen on the given examples: choose it on held-out ones for an unbiased rate.

    Args:
        scores: Score of the class, shape (N,).
        positive: Whether an example is of the class, bool, shape (N,).
        rate: Largest share of the negatives that are predicted as positive, in [0, 1].

    Raises:
        InputError: If the rate is out of range, or as in `precision_recall`.

    Example:
        >>> recall_at_false_alarm([0.75, 0.5, 0.25, 0.0], [True, False, True, False], 0.4)
        OperatingPoint(threshold=0.75, recall=0.5, precision=1.0, false_alarm=0.0)
    """
    if not 0 <= rate <= 1:
        raise InputError(f"`rate` must be >= 0 and <= 1, got {rate}")
    curve = precision_recall(scores, positive)
    allowed = int((curve.false_alarm <= rate).sum())  # the rate increases along the curve
    if not allowed:
        return OperatingPoint(float("inf"), 0.0, None, 0.0)
    values = (curve.thresholds, curve.recall, curve.precision, curve.false_alarm)
    return OperatingPoint(*(float(each[allowed - 1]) for each in values))
