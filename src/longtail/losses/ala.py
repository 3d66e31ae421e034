"""Adaptive logit adjustment loss (Zhao et al., "Adaptive Logit Adjustment Loss for Long-Tailed Visual Recognition").

AAAI 2022, https://arxiv.org/abs/2104.06094. The loss is a softmax of scaled cosines. The cosine of the true class y is
reduced by a margin, the product of a quantity factor 1 / log(n_y / n_min + 1) and a difficulty factor (1 - cos_y) / 2.

The authors have published no code. Some third-party implementations use the logarithm to base 2, which multiplies all
margins by 0.69, or treat the difficulty as a constant. This implementation follows the formula: a natural logarithm,
and a margin through which the gradient flows.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, rival_cross_entropy
from longtail.ranges import check_number


def quantity_factors(counts_C: Tensor) -> Tensor:
    """Return the largest margin of each class: 1 / log 2 for the rarest, less for others, 0 if absent. Shape (C,).

    Example:
        >>> quantity_factors(torch.tensor([31, 1]))
        tensor([0.2885, 1.4427], dtype=torch.float64)
    """
    rarest = counts_C[counts_C > 0].min()
    return torch.where(counts_C > 0, 1 / torch.log1p(counts_C.clamp(min=1).double() / rarest), 0.0)


class ALALoss(Loss):
    """Cross-entropy of scaled cosines with a margin that grows with class rarity and example difficulty.

    Requires cosine similarities: use a `CosineHead(scale=1)`. With soft targets, the loss is the expectation over the
    classes.

    Args:
        class_counts: Training images per class, shape (C,).
        scale: Factor of the cosines after the margin is subtracted. Default: 30.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `scale` is not positive.

    Example:
        >>> import torch
        >>> ALALoss([31, 1], scale=1.0)(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
        tensor(0.8897)
    """

    balances: ClassVar[bool] = True
    convex = True
    expects_cosines: ClassVar[bool] = True
    factors_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        scale: float = 30.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("scale", scale, "default: 30", above=0)
        self.scale = scale
        self.register_buffer("factors_C", quantity_factors(self.counts_C).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,), from cosine similarities."""
        margins_BC = (1 - logits_BC) / 2 * self.factors_C
        own_BC = self.scale * (logits_BC - margins_BC)
        return rival_cross_entropy(own_BC, self.scale * logits_BC, targets)
