"""Softmax equalization loss (Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020).

https://arxiv.org/abs/2003.05176: L = -log( e^z_y / sum_k w_k e^z_k ), w_k = 1 - beta 1[n_k / N < threshold] (1 - y_k),
beta ~ Bernoulli(gamma).

The text does not specify how often beta is drawn. The authors' code (`tztztztztz/eql.detectron2`, issue 9, and its
copies) draws it for each example and class, and so does this implementation; the version of BALMS draws one beta for a
whole batch. The authors' code compares n_k with a count; this implementation compares the share, as the text does. The
defaults are those of the BALMS code.
Shapes: B = batch, C = classes.
"""

import logging
from typing import ClassVar

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.base import MASKED, Absent, Loss, Reduction, rival_cross_entropy
from longtail.ranges import check_number

logger = logging.getLogger("longtail")


class EqualizationLoss(Loss):
    """Cross-entropy that suppresses the negative gradients of other classes on rare classes.

    Draws from the default random generator of the device of the logits. With soft targets, the loss is the expectation
    over the classes for one draw.

    Args:
        class_counts: Training images per class, shape (C,).
        threshold: Share of the training images below which a class is rare. Default: 0.005. Without a rare class
            (for example in CIFAR-10-LT with imbalance factor 50), the loss is plain cross-entropy, which is logged as a
            warning.
        gamma: Probability of suppressing the negative gradient of a rare class, drawn for each example and class.
            Default: 0.9; 0 is plain cross-entropy.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is not in [0, 1].

    Example:
        >>> import torch
        >>> loss = EqualizationLoss([999, 1], gamma=1.0)
        >>> loss(torch.tensor([[0.0, 5.0]]), torch.tensor([0])), loss(torch.tensor([[5.0, 0.0]]), torch.tensor([1]))
        (tensor(0.), tensor(5.0067))
    """

    balances: ClassVar[bool] = True
    rare_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        threshold: float = 5e-3,
        gamma: float = 0.9,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("threshold", threshold, "a share of the images", at_least=0, at_most=1)
        check_number("gamma", gamma, "a probability", at_least=0, at_most=1)
        self.threshold, self.gamma = threshold, gamma
        shares_C = self.counts_C / self.counts_C.sum()
        self.register_buffer("rare_C", shares_C < threshold, persistent=False)
        if threshold > 0 and gamma > 0 and not bool(self.rare_C.any()):
            logger.warning(
                "EqualizationLoss is plain cross-entropy here: no class has less than `threshold` = %g of the images, "
                "the rarest has %.2g; set a higher `threshold`",
                threshold,
                float(shares_C[~self.absent_C].min()),
            )

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        suppressed_BC = self.rare_C & (torch.rand_like(logits_BC) < self.gamma)
        return rival_cross_entropy(logits_BC, logits_BC.masked_fill(suppressed_BC, MASKED), targets)
