"""Losses that know how many training images each class has: `Loss(class_counts)(logits, targets)`."""

from longtail.losses.balanced_softmax import BalancedSoftmax
from longtail.losses.cross_entropy import CrossEntropy
from longtail.losses.logit_adjusted import LogitAdjustedLoss

__all__ = [
    "BalancedSoftmax",
    "CrossEntropy",
    "LogitAdjustedLoss",
]
