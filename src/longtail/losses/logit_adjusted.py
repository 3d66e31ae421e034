"""Logit-adjusted loss (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).

https://arxiv.org/abs/2007.07314, Eq. 10. With tau = 1 it equals Balanced Softmax.
"""

from typing import ClassVar, Unpack

from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import Contract, Loss, cross_entropy


class LogitAdjustedLoss(Loss):
    """Cross-entropy of `z + tau * log pi`: asks for a margin of `tau * log(pi_j / pi_y)` over each other class j.

    Args:
        class_counts: training images per class, shape (C,).
        tau: strength; 1 is consistent for the balanced error, 0 is plain cross-entropy.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `tau` is negative.

    Example:
        >>> import torch
        >>> LogitAdjustedLoss([90, 10], tau=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(2.3026)
    """

    balances: ClassVar[bool] = True
    shift_C: Tensor

    def __init__(self, class_counts: Countable, *, tau: float = 1.0, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if not tau >= 0:
            raise InputError(f"tau must be >= 0 (1 is the paper's, 0 plain cross-entropy), not {tau}")
        self.register_buffer("shift_C", tau * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return cross_entropy(logits_BC + self.shift_C, targets)
