"""Vector-scaling loss (Kini et al., "Label-Imbalanced and Group-Sensitive Classification under Overparameterization").

NeurIPS 2021, https://arxiv.org/abs/2103.01550: cross-entropy of Delta_c z_c + iota_c, multiplicative
Delta_c = (n_c / n_max)^gamma and additive iota_c = tau log pi_c, as in `orparask/VS-Loss`. With gamma = 0 it is the
logit-adjusted loss, with tau = 0 CDT. The class weights that the paper's formula also allows are left to their losses.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import Contract, Loss, cross_entropy
from longtail.losses.cdt import class_temperatures


class VSLoss(Loss):
    """Cross-entropy of `z_c * (n_c / n_max) ** gamma + tau * log pi_c`.

    The additive part helps early in training, the multiplicative part once the training error is zero.

    Args:
        class_counts: training images per class, shape (C,).
        gamma: strength of the multiplicative part; the default is that of the authors' code, which tunes it.
        tau: strength of the additive part.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `gamma` or `tau` is negative.

    Example:
        >>> import torch
        >>> VSLoss([16, 1], gamma=0.5, tau=1.0)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
        tensor(1.9295)
    """

    balances: ClassVar[bool] = True
    temperatures_C: Tensor
    shift_C: Tensor

    def __init__(
        self, class_counts: Countable, *, gamma: float = 0.3, tau: float = 1.0, **contract: Unpack[Contract]
    ) -> None:
        super().__init__(class_counts, **contract)
        if not tau >= 0:
            raise InputError(f"tau must be >= 0 (0 leaves the multiplicative part alone), not {tau}")
        self.register_buffer("temperatures_C", class_temperatures(self.counts_C, gamma), persistent=False)
        self.register_buffer("shift_C", tau * log_prior(self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return cross_entropy(logits_BC / self.temperatures_C + self.shift_C, targets)
