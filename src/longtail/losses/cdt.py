"""Class-dependent temperatures (Ye et al., "Identifying and Compensating for Feature Deviation", 2020).

https://arxiv.org/abs/2001.01385. In training, the logits are divided by a temperature that is higher for rarer classes.
At test time, use the logits without the temperatures.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy
from longtail.ranges import check_number


def class_temperatures(counts_C: Tensor, gamma: float) -> Tensor:
    """Return the temperature (n_max / n) ** gamma of each class, at least 1. Shape (C,).

    Raises:
        InputError: If `gamma` is negative.

    Example:
        >>> import torch
        >>> class_temperatures(torch.tensor([16.0, 1.0]), gamma=0.5)
        tensor([1., 4.])
    """
    check_number("gamma", gamma, "0: temperature 1 for all classes", at_least=0)
    return (counts_C.max() / counts_C.clamp(min=1)) ** gamma


class CDTLoss(Loss):
    """Cross-entropy of `z_c / (n_max / n_c) ** gamma`, which requires larger logits for rare classes in training.

    Args:
        class_counts: Training images per class, shape (C,).
        gamma: Exponent of the temperatures; 0 is plain cross-entropy. The authors give no default and search [0, 0.4]
            for CIFAR-10, [0, 0.2] for CIFAR-100 and Tiny-ImageNet, and [0, 0.1] for iNaturalist. Default: 0.2.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `gamma` is negative.

    Example:
        >>> import torch
        >>> CDTLoss([16, 1], gamma=0.5)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
        tensor(0.3133)
    """

    balances: ClassVar[bool] = True
    convex = True
    temperatures_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        gamma: float = 0.2,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        self.gamma = gamma
        self.register_buffer("temperatures_C", class_temperatures(self.counts_C, gamma), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC / self.temperatures_C, targets)
