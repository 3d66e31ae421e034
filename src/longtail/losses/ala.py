"""Adaptive logit adjustment loss (Zhao et al., "Adaptive Logit Adjustment Loss for Long-Tailed Visual Recognition").

AAAI 2022, https://arxiv.org/abs/2104.06094: a softmax of scaled cosines, the true one less a margin that is the product
of a quantity factor 1 / log(n_y / n_min + 1) and a difficulty factor (1 - cos_y) / 2. Takes cosine similarities: use it
on a `CosineHead`, without a scale. The authors have published no code. Some others take the logarithm to the base 2
(all margins times 0.69), or the difficulty as a constant; we read the formula as it stands: a natural logarithm, and a
margin that the gradient sees.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, rival_cross_entropy


def quantity_factors(counts_C: Tensor) -> Tensor:
    """Largest margin of each class: 1 / log 2 for the rarest, less for fuller ones, 0 for absent ones. Shape (C,).

    Example:
        >>> quantity_factors(torch.tensor([31, 1]))
        tensor([0.2885, 1.4427], dtype=torch.float64)
    """
    rarest = counts_C[counts_C > 0].min()
    return torch.where(counts_C > 0, 1 / torch.log1p(counts_C.clamp(min=1).double() / rarest), 0.0)


class ALALoss(Loss):
    """Cross-entropy of scaled cosines that asks for a margin of rare classes, and of examples that are still difficult.

    Soft targets give the expectation of the loss over the classes.

    Args:
        class_counts: training images per class, shape (C,).
        scale: multiplies the cosines once the margin is taken off.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `scale` is not positive.

    Example:
        >>> import torch
        >>> ALALoss([31, 1], scale=1.0)(torch.tensor([[0.5, 0.5]]), torch.tensor([1]))
        tensor(0.8897)
    """

    balances: ClassVar[bool] = True
    expects_cosines: ClassVar[bool] = True
    factors_C: Tensor

    def __init__(self, class_counts: Countable, *, scale: float = 30.0, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if not scale > 0:
            raise InputError(f"scale must be positive (30 by default), not {scale}")
        self.scale = scale
        self.register_buffer("factors_C", quantity_factors(self.counts_C).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,), from cosine similarities."""
        margins_BC = (1 - logits_BC) / 2 * self.factors_C
        own_BC = self.scale * (logits_BC - margins_BC)
        return rival_cross_entropy(own_BC, self.scale * logits_BC, targets)
