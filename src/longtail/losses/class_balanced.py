"""Class-balanced loss (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019).

https://arxiv.org/abs/1901.05555. Images overlap, so n images of a class count as an effective number of
(1 - beta^n) / (1 - beta). Each class is weighted by the inverse of its effective number.

As in the authors' code (`richardaecn/class-balanced-loss`), the weights sum to the number of classes, a batch is
divided by its number of examples (not by the sum of their weights), and the focal form uses sigmoids. The authors
initialize the bias of the last layer of the sigmoid forms to -log(C - 1) and exclude it from weight decay.
Shapes: B = batch, C = classes.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import unknown_name
from longtail.losses.base import Absent, Reduction, pick
from longtail.losses.weighted import Normalize, WeightedLoss
from longtail.ranges import check_number

Kind = Literal["softmax", "sigmoid", "focal"]


def effective_number_weights(counts_C: Tensor, beta: float) -> Tensor:
    """Return class weights (1 - beta) / (1 - beta^n), scaled to mean 1 over the classes that have images.

    Args:
        counts_C: Training images per class, shape (C,).
        beta: Overlap in [0, 1). 0 weights all classes equally; toward 1 the weights become inverse to the counts.

    Returns:
        Weights of shape (C,), float64; 0 for absent classes.

    Raises:
        InputError: If `beta` is not in [0, 1).

    Example:
        >>> effective_number_weights(torch.tensor([1, 2]), beta=0.5)
        tensor([1.2000, 0.8000], dtype=torch.float64)
    """
    check_number("beta", beta, "0.9999 in the paper, 0: equal weights", at_least=0, below=1)
    numbers_C = (1 - beta ** counts_C.double()) / (1 - beta)
    weights_C = torch.where(counts_C > 0, 1 / numbers_C, 0.0)
    return weights_C * ((counts_C > 0).sum() / weights_C.sum())


class ClassBalancedLoss(WeightedLoss):
    """Softmax, sigmoid or focal loss with classes weighted by the inverse of their effective number of images.

    The sigmoid forms sum a binary cross-entropy over all classes; each term has the weight of the *true* class. With
    soft targets, the loss is the expectation over the classes. In all forms, the largest logit is the prediction.

    Args:
        class_counts: Training images per class, shape (C,).
        beta: Overlap in [0, 1). 0 leaves the classes unweighted; toward 1 the weights become inverse to the counts.
            Default: 0.9999.
        kind: Form of the loss: "softmax" (default), "sigmoid" or "focal" (sigmoid).
        gamma: Focusing exponent of the focal form; unused by the others. The authors try 0.5, 1 (default) and 2.
        normalize: Normalization of the class weights: "data" (default) has mean 1 over the classes, as in the authors'
            code, "batch" over each batch, see `WeightedLoss`.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is out of range.

    Example:
        >>> import torch
        >>> ClassBalancedLoss([2, 1], beta=0.5)(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.8318)
    """

    def __init__(
        self,
        class_counts: Countable,
        *,
        beta: float = 0.9999,
        kind: Kind = "softmax",
        gamma: float = 1.0,
        normalize: Normalize = "data",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(
            class_counts, normalize=normalize, reduction=reduction, ignore_index=ignore_index, absent=absent
        )
        if kind not in get_args(Kind):
            raise unknown_name("kind of class-balanced loss", kind, get_args(Kind))
        check_number("gamma", gamma, "the authors try 0.5, 1 and 2", at_least=0)
        self.beta, self.kind, self.gamma = beta, kind, gamma
        self.convex = kind != "focal" or gamma == 0
        weights_C = effective_number_weights(self.counts_C, beta).float()
        self.register_buffer("weights_C", weights_C, persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        if self.kind == "softmax":
            return pick(self.weights_C * -F.log_softmax(logits_BC, dim=1), targets)
        log_p_BC, log_q_BC = F.logsigmoid(logits_BC), F.logsigmoid(-logits_BC)
        as_true_BC, as_false_BC = -log_p_BC, -log_q_BC
        if self.kind == "focal":
            as_true_BC = as_true_BC * (self.gamma * log_q_BC).exp()
            as_false_BC = as_false_BC * (self.gamma * log_p_BC).exp()
        # column c: the loss if c is the true class and all others are false
        losses_BC = as_true_BC + (as_false_BC.sum(dim=1, keepdim=True) - as_false_BC)
        return pick(self.weights_C * losses_BC, targets)
