"""Class-weighted cross-entropy: each class counts in inverse proportion to its number of training images ("CBW").

Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, pick


def mean_one_over_images(weights_C: Tensor, counts_C: Tensor) -> Tensor:
    """Class weights scaled so that their mean over the training images is 1. Shape (C,), float32.

    A batch's weighted mean then has the size of a plain mean, as in PyTorch's `cross_entropy(weight=...)`, which
    divides by the sum of the weights that happen to be in the batch. We do not divide so: it would tie an example's
    gradient to the rest of its batch, and several ranks would no longer give the gradient of one.

    Example:
        >>> mean_one_over_images(torch.tensor([1.0, 3.0]), torch.tensor([30, 10]))
        tensor([0.6667, 2.0000])
    """
    return (weights_C * (counts_C.sum() / (weights_C.double() * counts_C).sum())).float()


class WeightedCrossEntropy(Loss):
    """Cross-entropy with weight `N / (C * n_y)`, the "balanced" weights of scikit-learn.

    With another `power` it is the generalised re-weighting of DisAlign (Zhang et al., CVPR 2021,
    https://arxiv.org/abs/2103.16370): weights in proportion to n_y ** -power, with mean 1 over the training images.
    Soft targets weight each class's share of the loss by the weight of that class.

    Args:
        class_counts: training images per class, shape (C,).
        power: 1 weights a class by the inverse of its count, 0 all equally; DisAlign takes 1.2 on ImageNet-LT.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`. The mean divides by the number of examples.

    Raises:
        InputError: if a class has no training image (see `absent`), or `power` is negative.

    Example:
        >>> import torch
        >>> WeightedCrossEntropy([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(3.4657)
    """

    balances: ClassVar[bool] = True
    weights_C: Tensor

    def __init__(self, class_counts: Countable, *, power: float = 1.0, **contract: Unpack[Contract]) -> None:
        super().__init__(class_counts, **contract)
        if not power >= 0:
            raise InputError(f"power must be >= 0 (1 weights by the inverse of the counts), not {power}")
        inverse_C = torch.where(self.absent_C, 0.0, self.counts_C.double().clamp(min=1) ** -power)
        self.register_buffer("weights_C", mean_one_over_images(inverse_C, self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return pick(self.weights_C * -F.log_softmax(logits_BC, dim=1), targets)
