"""Class-balanced loss (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019).

https://arxiv.org/abs/1901.05555. n images of a class are worth (1 - beta^n) / (1 - beta) of them, since they overlap;
a class is weighted by the inverse. As in `richardaecn/class-balanced-loss`, the weights sum to the number of classes,
a batch is divided by its number of examples (not by their weights), and the focal form is the sigmoid one.
The authors start the bias of the last layer of the sigmoid forms at -log(C - 1), and leave it out of weight decay.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError, unknown_name
from longtail.losses.base import Contract, Loss, pick

Kind = Literal["softmax", "sigmoid", "focal"]


def effective_number_weights(counts_C: Tensor, beta: float) -> Tensor:
    """Class weights (1 - beta) / (1 - beta^n), with mean 1 over the classes that have images; 0 for the others.

    Args:
        counts_C: training images per class, shape (C,).
        beta: in [0, 1): 0 weights all classes equally, towards 1 the weights become inverse to the counts.

    Returns:
        Shape (C,), float64.

    Raises:
        InputError: if `beta` is not in [0, 1).

    Example:
        >>> effective_number_weights(torch.tensor([1, 2]), beta=0.5)
        tensor([1.2000, 0.8000], dtype=torch.float64)
    """
    if not 0 <= beta < 1:
        raise InputError(f"beta must lie in [0, 1) (0.9999 in the paper, 0 weights all classes equally), not {beta}")
    numbers_C = (1 - beta ** counts_C.double()) / (1 - beta)
    weights_C = torch.where(counts_C > 0, 1 / numbers_C, 0.0)
    return weights_C * ((counts_C > 0).sum() / weights_C.sum())


class ClassBalancedLoss(Loss):
    """Softmax, sigmoid or focal loss, each class weighted by the inverse of its effective number of images.

    The sigmoid forms sum a binary cross-entropy over all classes, each weighted by the weight of the *true* class.
    Soft targets give the expectation of the loss over the classes.

    Args:
        class_counts: training images per class, shape (C,).
        beta: in [0, 1); 0 leaves the classes unweighted, towards 1 the weights become inverse to the counts.
        kind: "softmax", "sigmoid" or "focal" (sigmoid). At test time the largest logit wins in all three.
        gamma: of the focal form, unused by the others; the authors try 0.5, 1 and 2.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or an option is out of its range.

    Example:
        >>> import torch
        >>> ClassBalancedLoss([2, 1], beta=0.5)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.8318)
    """

    balances: ClassVar[bool] = True
    weights_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        beta: float = 0.9999,
        kind: Kind = "softmax",
        gamma: float = 1.0,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, **contract)
        if kind not in get_args(Kind):
            raise unknown_name("kind of class-balanced loss", kind, get_args(Kind))
        if not gamma >= 0:
            raise InputError(f"gamma must be >= 0 (the authors try 0.5, 1 and 2), not {gamma}")
        self.kind, self.gamma = kind, gamma
        weights_C = effective_number_weights(self.counts_C, beta).float()
        self.register_buffer("weights_C", weights_C, persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        if self.kind == "softmax":
            return pick(self.weights_C * -F.log_softmax(logits_BC, dim=1), targets)
        log_p_BC, log_q_BC = F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)
        as_true_BC, as_false_BC = -log_p_BC, -log_q_BC
        if self.kind == "focal":
            as_true_BC = as_true_BC * (self.gamma * log_q_BC).exp()
            as_false_BC = as_false_BC * (self.gamma * log_p_BC).exp()
        # column c: the loss if c were the true class and all others false
        losses_BC = as_true_BC + (as_false_BC.sum(dim=1, keepdim=True) - as_false_BC)
        return pick(self.weights_C * losses_BC, targets)
