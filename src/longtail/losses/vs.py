"""Vector-scaling loss (Kini et al., "Label-Imbalanced and Group-Sensitive Classification under Overparameterization").

NeurIPS 2021, https://arxiv.org/abs/2103.01550: cross-entropy of Delta_c z_c + iota_c with multiplicative factors
Delta_c = (n_c / n_max)^gamma and additive shifts iota_c = tau log pi_c, as in the authors' code (`orparask/VS-Loss`).
With gamma = 0 it is the logit-adjusted loss, with tau = 0 it is CDT. The formula of the paper also allows class
weights; use `WeightedCrossEntropy` or `ClassBalancedLoss` for those.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy
from longtail.losses.cdt import class_temperatures
from longtail.ranges import check_number


class VSLoss(Loss):
    """Cross-entropy of `z_c * (n_c / n_max) ** gamma + tau * log pi_c`.

    The additive part helps early in training, the multiplicative part once the training error is zero.

    Args:
        class_counts: Training images per class, shape (C,).
        gamma: Strength of the multiplicative part. The default of 0.3 is that of the authors' code, which tunes it.
        tau: Strength of the additive part. Default: 1.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `gamma` or `tau` is negative.

    Example:
        >>> import torch
        >>> VSLoss([16, 1], gamma=0.5, tau=1.0)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
        tensor(1.9295)
    """

    balances: ClassVar[bool] = True
    convex = True
    temperatures_C: Tensor
    shift_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        gamma: float = 0.3,
        tau: float = 1.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("tau", tau, "0: multiplicative part only", at_least=0)
        self.gamma, self.tau = gamma, tau
        self.register_buffer("temperatures_C", class_temperatures(self.counts_C, gamma), persistent=False)
        self.register_buffer("shift_C", tau * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC / self.temperatures_C + self.shift_C, targets)
