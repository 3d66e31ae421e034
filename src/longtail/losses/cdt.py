"""Class-dependent temperatures (Ye et al., "Identifying and Compensating for Feature Deviation", 2020).

https://arxiv.org/abs/2001.01385: in training the logits are divided by a temperature that is higher for rarer classes;
at test time they are used as they are.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, cross_entropy


def class_temperatures(counts_C: Tensor, gamma: float) -> Tensor:
    """Temperature (n_max / n) ** gamma of each class, at least 1. Shape (C,).

    Raises:
        InputError: if `gamma` is negative.

    Example:
        >>> import torch
        >>> class_temperatures(torch.tensor([16.0, 1.0]), gamma=0.5)
        tensor([1., 4.])
    """
    if not gamma >= 0:
        raise InputError(f"gamma must be >= 0 (0 gives every class the temperature 1), not {gamma}")
    return (counts_C.max() / counts_C.clamp(min=1)) ** gamma


class CDTLoss(Loss):
    """Cross-entropy of `z_c / (n_max / n_c) ** gamma`: rare classes must reach larger logits in training.

    Args:
        class_counts: training images per class, shape (C,).
        gamma: strength, 0 is plain cross-entropy. The authors search [0, 0.4] for CIFAR-10, [0, 0.2] for CIFAR-100 and
            Tiny-ImageNet, [0, 0.1] for iNaturalist, and give no default.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `gamma` is negative.

    Example:
        >>> import torch
        >>> CDTLoss([16, 1], gamma=0.5)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
        tensor(0.3133)
    """

    balances: ClassVar[bool] = True
    temperatures_C: Tensor

    def __init__(self, class_counts: Countable, *, gamma: float = 0.2, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        self.register_buffer("temperatures_C", class_temperatures(self.counts_C, gamma), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return cross_entropy(logits_BC / self.temperatures_C, targets)
