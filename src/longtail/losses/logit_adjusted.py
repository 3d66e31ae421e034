"""Logit-adjusted loss (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).

https://arxiv.org/abs/2007.07314, Eq. 10. With tau = 1 it equals Balanced Softmax.
"""

from typing import ClassVar

from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy
from longtail.ranges import check_number


class LogitAdjustedLoss(Loss):
    """Cross-entropy of `z + tau * log pi`, a margin of `tau * log(pi_j / pi_y)` over each other class j.

    `longtail.posthoc.LogitAdjustment` applies the same shift after training.

    Args:
        class_counts: Training images per class, shape (C,).
        tau: Strength of the adjustment. 1 (default) is consistent for the balanced error; 0 is plain cross-entropy.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `tau` is negative.

    Example:
        >>> import torch
        >>> LogitAdjustedLoss([90, 10], tau=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(2.3026)
    """

    balances: ClassVar[bool] = True
    convex = True
    shift_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        tau: float = 1.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("tau", tau, "1 in the paper, 0: plain cross-entropy", at_least=0)
        self.tau = tau
        self.register_buffer("shift_C", tau * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC + self.shift_C, targets)
