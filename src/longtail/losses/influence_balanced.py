"""Influence-balanced loss (Park et al., "Influence-Balanced Loss for Imbalanced Visual Classification", ICCV 2021).

https://arxiv.org/abs/2110.02444. Cross-entropy is divided by the influence of the example on the last layer and
multiplied by a class weight proportional to 1 / n. The influence is the L1 norm of the gradient at the last layer,
|softmax - target|_1 |embedding|_1. The loss is intended for a second phase, after training with cross-entropy: of 200
epochs, the authors switch at 100 (`balance_from=0.5`) and divide the learning rate by 100, and again at 160 and 180.

From the authors' code (`pseulki/IB-Loss`): 0.001 is added to the influence, the class weights have mean 1 over the
classes, and the gradient also flows through the influence, as it does in the printed loss.
Shapes: B = batch, C = classes, D = embedding dimension.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy, pick
from longtail.ranges import check_number

EPSILON = 1e-3


class InfluenceBalancedLoss(Loss):
    """Cross-entropy that down-weights the examples with the largest influence on the decision boundary.

    Call it with the input of the last layer: `loss(logits, targets, embeddings)`. Without the embeddings, the loss uses
    the influence on the bias of the last layer. With soft targets, the loss is the expectation over the classes.

    Args:
        class_counts: Training images per class, shape (C,).
        alpha: Factor of the loss. The authors recommend the value that restores the magnitude of cross-entropy, 1,000
            on CIFAR with ResNet-32. Default (None): 1,000 with embeddings and 1 without.
        balance_from: Share of the training, in [0, 1], before which the loss is plain cross-entropy. Call
            `set_progress` before each epoch; without it, the loss is influence-balanced from the start.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is out of range.

    Example:
        >>> import torch
        >>> loss = InfluenceBalancedLoss([3, 1], alpha=1.0)
        >>> logits, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([1])
        >>> loss(logits, targets), loss(logits, targets, torch.tensor([[3.0, -1.0]]))
        (tensor(1.0387), tensor(0.2599))
    """

    balances: ClassVar[bool] = True
    uses_embeddings: ClassVar[bool] = True
    weights_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        alpha: float | None = None,
        balance_from: float = 0.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("alpha", alpha, "1,000 on CIFAR with ResNet-32", optional=True, above=0)
        check_number("balance_from", balance_from, "a share of the training", at_least=0, at_most=1)
        self.alpha, self.balance_from, self.balanced = alpha, balance_from, True
        inverse_C = torch.where(self.absent_C, 0.0, 1 / self.counts_C.double().clamp(min=1))
        weights_C = inverse_C * ((~self.absent_C).sum() / inverse_C.sum())
        self.register_buffer("weights_C", weights_C.float(), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Switch from cross-entropy once the share `balance_from` of the training is completed."""
        self.balanced = progress >= self.balance_from - 1e-9  # tolerance: most shares are not exact in binary

    def per_example(self, logits_BC: Tensor, targets: Tensor, embeddings_BD: Tensor | None = None) -> Tensor:
        """Compute the loss of each example, shape (B,), from its logits and embedding."""
        if not self.balanced:
            return cross_entropy(logits_BC, targets)
        log_p_BC = F.log_softmax(logits_BC, dim=1)
        influence_BC = -2 * torch.expm1(log_p_BC)  # |softmax - one-hot|_1 = 2 (1 - p), if the class is the true one
        alpha = self.alpha
        if embeddings_BD is not None:
            if embeddings_BD.ndim != 2 or len(embeddings_BD) != len(logits_BC):
                raise InputError(
                    f"embeddings must have shape ({len(logits_BC)}, D) for logits of shape {tuple(logits_BC.shape)}, "
                    f"got {tuple(embeddings_BD.shape)}"
                )
            influence_BC = influence_BC * embeddings_BD.to(logits_BC.dtype).abs().sum(dim=1, keepdim=True)
            alpha = 1e3 if alpha is None else alpha
        balanced_BC = -log_p_BC / (influence_BC + EPSILON)
        return pick((1.0 if alpha is None else alpha) * self.weights_C * balanced_BC, targets)
