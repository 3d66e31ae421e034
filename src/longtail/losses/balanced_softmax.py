"""Balanced Softmax (Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020).

https://arxiv.org/abs/2007.10740, Eq. 4: a softmax in which each class is weighted by its number of training images. At
test time, use the logits without the shift. The same loss is published as logit adjustment with tau = 1 and as PriorCE
or LADE-CE.
"""

from typing import ClassVar

from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy
from longtail.ranges import check_number


def log_prior(counts_C: Tensor) -> Tensor:
    """Return the log class counts, shifted to 0 for the most frequent class; 0 for absent classes. Shape (C,).

    A common shift does not change a softmax. This one leaves the largest logit in place.
    """
    logs_C = counts_C.clamp(min=1).log()
    return (logs_C - logs_C.max()).where(counts_C > 0, 0.0)


class BalancedSoftmax(Loss):
    """Cross-entropy of `z + power * log n`, whose softmax is unbiased under a uniform test prior.

    A strong default for long-tailed data. Combine it with instance-balanced sampling, since it already corrects for the
    class counts.

    Args:
        class_counts: Training images per class, shape (C,).
        power: Exponent of the counts. 1 (default) is Balanced Softmax, 1/4 is BS-1/4 of the paper (Corollary 2.1), and
            0 is plain cross-entropy.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `power` is negative.

    Example:
        >>> import torch
        >>> BalancedSoftmax([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(2.3026)
    """

    balances: ClassVar[bool] = True
    convex = True
    shift_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        power: float = 1.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("power", power, "1: Balanced Softmax, 0: plain cross-entropy", at_least=0)
        self.power = power
        self.register_buffer("shift_C", power * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC + self.shift_C, targets)
