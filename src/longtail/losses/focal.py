"""Focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, https://arxiv.org/abs/1708.02002).

The paper uses one sigmoid per class and gamma = 2. Work on long-tailed data uses the softmax form with gamma = 1, after
`kaidic/LDAM-DRW`, and so does this implementation. The sigmoid form is `ClassBalancedLoss(kind="focal", beta=0)`.
Shapes: B = batch, C = classes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, pick
from longtail.ranges import check_number


class FocalLoss(Loss):
    """Cross-entropy times `(1 - p_y) ** gamma`, which down-weights well-classified examples.

    It weights examples by difficulty and does not use the class counts. With soft targets, the loss of each class is
    weighted as in cross-entropy.

    Args:
        class_counts: Training images per class, shape (C,); used only for absent classes.
        gamma: Focusing exponent; 0 is plain cross-entropy. Default: 1.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `gamma` is negative.

    Example:
        >>> import torch
        >>> FocalLoss([90, 10], gamma=1.0)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.3466)
    """

    def __init__(
        self,
        class_counts: Countable,
        *,
        gamma: float = 1.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("gamma", gamma, "1: usual on long-tailed data, 0: cross-entropy", at_least=0)
        self.gamma = gamma
        self.convex = gamma == 0

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        log_p_BC = F.log_softmax(logits_BC, dim=1)
        # expm1: 1 - p without cancellation; clamp: the slope of 0 ** gamma is infinite for gamma < 1
        rest_BC = (-torch.expm1(log_p_BC)).clamp(min=torch.finfo(log_p_BC.dtype).tiny)
        return pick(rest_BC**self.gamma * -log_p_BC, targets)
