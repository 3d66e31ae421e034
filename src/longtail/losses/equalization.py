"""Softmax equalization loss (Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020).

https://arxiv.org/abs/2003.05176: L = -log( e^z_y / sum_k w_k e^z_k ), w_k = 1 - beta 1[n_k / N < threshold] (1 - y_k),
beta ~ Bernoulli(gamma). The text does not say how often beta is drawn; the author's code (`tztztztztz/eql.detectron2`,
issue 9, and its copies) draws it for each example and class, and so do we; BALMS' version draws one for a whole batch.
That code compares n_k with a count; we compare the share, as the text does. The defaults are those of BALMS' code.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import MASKED, Contract, Loss, rival_cross_entropy


class EqualizationLoss(Loss):
    """Cross-entropy in which a rare class is mostly spared from being pushed down by the examples of other classes.

    Draws from the default random generator of the logits' device. Soft targets give the expectation of the loss over
    the classes (for the same draw).

    Args:
        class_counts: training images per class, shape (C,).
        threshold: a class with a smaller share of the training images is rare. Where there is none (CIFAR-10-LT with
            an imbalance of 50, say), this is plain cross-entropy.
        gamma: probability of sparing a rare class, drawn for each example and class; 0 is plain cross-entropy.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or an option lies outside [0, 1].

    Example:
        >>> import torch
        >>> spared = EqualizationLoss([999, 1], gamma=1.0)
        >>> spared(torch.tensor([[0.0, 5.0]]), torch.tensor([0])), spared(torch.tensor([[5.0, 0.0]]), torch.tensor([1]))
        (tensor(0.), tensor(5.0067))
    """

    balances: ClassVar[bool] = True
    rare_C: Tensor

    def __init__(
        self, class_counts: Countable, *, threshold: float = 5e-3, gamma: float = 0.9, **contract: Unpack[Contract]
    ) -> None:
        super().__init__(class_counts, **contract)
        if not (0 <= threshold <= 1 and 0 <= gamma <= 1):
            raise InputError(
                f"threshold (a share) and gamma (a probability) lie in [0, 1], not {threshold} and {gamma}"
            )
        self.gamma = gamma
        self.register_buffer("rare_C", self.counts_C / self.counts_C.sum() < threshold, persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        spared_BC = self.rare_C & (torch.rand_like(logits_BC) < self.gamma)
        return rival_cross_entropy(logits_BC, logits_BC.masked_fill(spared_BC, MASKED), targets)
