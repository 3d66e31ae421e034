"""The loss of the plug-in.

Shapes: B = batch, C = classes.
"""

from typing import Any, ClassVar

from torch import Tensor

from longtail.losses.base import Loss, cross_entropy


class SqrtBalancedSoftmax(Loss):
    """Cross-entropy of `z + log(n) / 2`: halfway between cross-entropy and Balanced Softmax.

    Args:
        class_counts: Training images per class, shape (C,).
        options: `reduction`, `ignore_index` and `absent`, as for every `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`).

    Example:
        >>> import torch
        >>> SqrtBalancedSoftmax([9, 1])(torch.zeros(1, 2), torch.tensor([1]))
        tensor(1.3863)
    """

    balances: ClassVar[bool] = True
    shift_C: Tensor

    def __init__(self, class_counts: Any, **options: Any) -> None:
        super().__init__(class_counts, **options)
        self.register_buffer("shift_C", self.counts_C.clamp(min=1).log() / 2, persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC + self.shift_C, targets)
