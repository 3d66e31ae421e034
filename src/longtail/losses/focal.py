"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, https://arxiv.org/abs/1708.02002).

The paper takes a sigmoid per class and gamma = 2; work on long tails takes the softmax form with gamma = 1, after
`kaidic/LDAM-DRW`, and so do we. The sigmoid form is `ClassBalancedLoss(kind="focal", beta=0)`.
Shapes: B = batch, C = classes.
"""

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, pick


class FocalLoss(Loss):
    """Cross-entropy times `(1 - p_y) ** gamma`: examples that are classified well hardly count.

    Soft targets weight the loss of each class, as they do in cross-entropy.

    Args:
        class_counts: training images per class, shape (C,); used for absent classes only.
        gamma: how fast an example stops counting; 0 is plain cross-entropy.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `gamma` is negative.

    Example:
        >>> import torch
        >>> FocalLoss([90, 10], gamma=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.3466)
    """

    def __init__(self, class_counts: Countable, *, gamma: float = 1.0, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if not gamma >= 0:
            raise InputError(f"gamma must be >= 0 (1 is usual on long tails, 0 plain cross-entropy), not {gamma}")
        self.gamma = gamma

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        log_p_BC = F.log_softmax(logits_BC, dim=1)
        # 1 - p without cancellation, and above 0, where a gamma below 1 has an infinite slope
        rest_BC = (-torch.expm1(log_p_BC)).clamp(min=torch.finfo(log_p_BC.dtype).tiny)
        return pick(rest_BC**self.gamma * -log_p_BC, targets)
