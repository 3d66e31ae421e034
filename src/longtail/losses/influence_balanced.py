"""Influence-balanced loss (Park et al., "Influence-Balanced Loss for Imbalanced Visual Classification", ICCV 2021).

https://arxiv.org/abs/2110.02444: cross-entropy divided by the influence of the example on the last layer, the L1 norm
of its gradient there, which is |softmax - target|_1 |embedding|_1; times a class weight proportional to 1 / n. It is
meant for a second phase, after training with cross-entropy (the authors switch half-way and divide the learning rate by
100). From the authors' code (`pseulki/IB-Loss`): 0.001 is added to the influence, the class weights have mean 1 over
the classes, and the gradient also flows through the influence, as it does in the printed loss.
Shapes: B = batch, C = classes, D = embedding dimension.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, pick

EPSILON = 1e-3


class InfluenceBalancedLoss(Loss):
    """Cross-entropy in which the examples that shape the decision boundary most count least.

    Call it with the embeddings that the last layer saw, `loss(logits, targets, embeddings)`. Without them, it is the
    influence on the bias of the last layer that is balanced. Soft targets give the expectation over the classes.

    Args:
        class_counts: training images per class, shape (C,).
        alpha: multiplies the loss; the authors advise to bring it to the size that cross-entropy had, and take 1,000 on
            CIFAR with ResNet-32. None takes that with embeddings, and 1 without.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `alpha` is not positive.

    Example:
        >>> import torch
        >>> loss = InfluenceBalancedLoss([3, 1], alpha=1.0)
        >>> logits, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([1])
        >>> loss(logits, targets), loss(logits, targets, torch.tensor([[3.0, -1.0]]))
        (tensor(1.0387), tensor(0.2599))
    """

    balances: ClassVar[bool] = True
    uses_embeddings = True
    weights_C: Tensor

    def __init__(self, class_counts: Countable, *, alpha: float | None = None, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if alpha is not None and not alpha > 0:
            raise InputError(f"alpha must be positive (1,000 on CIFAR with ResNet-32), not {alpha}")
        self.alpha = alpha
        inverse_C = torch.where(self.absent_C, 0.0, 1 / self.counts_C.double().clamp(min=1))
        weights_C = inverse_C * ((~self.absent_C).sum() / inverse_C.sum())
        self.register_buffer("weights_C", weights_C.float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor, embeddings_BD: Tensor | None = None) -> Tensor:
        """Loss of each example, shape (B,), from logits and the embeddings (B, D) they were made of."""
        log_p_BC = F.log_softmax(logits_BC, dim=1)
        influence_BC = -2 * torch.expm1(log_p_BC)  # |softmax - one-hot|_1 = 2 (1 - p), were the class the true one
        alpha = self.alpha
        if embeddings_BD is not None:
            if embeddings_BD.ndim != 2 or len(embeddings_BD) != len(logits_BC):
                raise InputError(
                    f"logits of shape {tuple(logits_BC.shape)} need embeddings of shape ({len(logits_BC)}, D), "
                    f"not {tuple(embeddings_BD.shape)}"
                )
            influence_BC = influence_BC * embeddings_BD.to(logits_BC.dtype).abs().sum(dim=1, keepdim=True)
            alpha = 1e3 if alpha is None else alpha
        balanced_BC = -log_p_BC / (influence_BC + EPSILON)
        return pick((1.0 if alpha is None else alpha) * self.weights_C * balanced_BC, targets)
