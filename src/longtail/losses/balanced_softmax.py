"""Balanced Softmax (Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020).

https://arxiv.org/abs/2007.10740, Eq. 4: softmax with each class weighted by its number of training images. At test time
the logits are used as they are. The same loss is published as logit adjustment with tau = 1 and as PriorCE / LADE-CE.
"""

from typing import ClassVar, Unpack

from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, cross_entropy


def log_prior(counts_C: Tensor) -> Tensor:
    """Logarithm of the class counts, shifted so that the fullest class has 0; absent classes get 0. Shape (C,).

    A common shift changes no softmax; this one keeps the largest logit where it was.
    """
    logs_C = counts_C.clamp(min=1).log()
    return (logs_C - logs_C.max()).where(counts_C > 0, 0.0)


class BalancedSoftmax(Loss):
    """Cross-entropy of `z + power * log n`: the softmax that is unbiased under a uniform test prior.

    Args:
        class_counts: training images per class, shape (C,).
        power: of the counts: 1 is Balanced Softmax, 1/4 the paper's BS-1/4 (Corollary 2.1), 0 plain cross-entropy.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `power` is negative.

    Example:
        >>> import torch
        >>> BalancedSoftmax([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(2.3026)
    """

    balances: ClassVar[bool] = True
    shift_C: Tensor

    def __init__(self, class_counts: Countable, *, power: float = 1.0, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if not power >= 0:
            raise InputError(f"power must be >= 0 (1 is Balanced Softmax, 0 plain cross-entropy), not {power}")
        self.register_buffer("shift_C", power * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return cross_entropy(logits_BC + self.shift_C, targets)
