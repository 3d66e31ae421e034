"""Class-weighted cross-entropy ("CBW"): each class has a weight inverse to its number of training images.

Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, pick
from longtail.ranges import check_number


def mean_one_over_images(weights_C: Tensor, counts_C: Tensor) -> Tensor:
    """Scale class weights to mean 1 over the training images. Shape (C,), float32.

    The weighted mean of a batch then has the magnitude of a plain mean. PyTorch's `cross_entropy(weight=...)` achieves
    this by dividing by the sum of the weights in the batch. Dividing by the batch would make the gradient of an example
    depend on the rest of its batch, and the gradient of several ranks differ from that of one process.

    Example:
        >>> mean_one_over_images(torch.tensor([1.0, 3.0]), torch.tensor([30, 10]))
        tensor([0.6667, 2.0000])
    """
    return (weights_C * (counts_C.sum() / (weights_C.double() * counts_C).sum())).float()


class WeightedCrossEntropy(Loss):
    """Cross-entropy with weight `N / (C * n_y)`, the "balanced" weights of scikit-learn.

    With another `power` it is the generalized re-weighting of DisAlign (Zhang et al., CVPR 2021,
    https://arxiv.org/abs/2103.16370): weights proportional to n_y ** -power, with mean 1 over the training images.
    With soft targets, the loss of each class is weighted by the weight of that class.

    Args:
        class_counts: Training images per class, shape (C,).
        power: Exponent of the inverse counts. 1 (default) weights a class by the inverse of its count, 0 all classes
            equally. DisAlign uses 1.2 on ImageNet-LT.
        reduction: Reduction over the batch, see `Loss`. The mean divides by the number of examples.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `power` is negative.

    Example:
        >>> import torch
        >>> WeightedCrossEntropy([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(3.4657)
    """

    balances: ClassVar[bool] = True
    weights_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        power: float = 1.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("power", power, "1: weights inverse to the counts", at_least=0)
        self.power = power
        inverse_C = torch.where(self.absent_C, 0.0, self.counts_C.double().clamp(min=1) ** -power)
        self.register_buffer("weights_C", mean_one_over_images(inverse_C, self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return pick(self.weights_C * -F.log_softmax(logits_BC, dim=1), targets)
