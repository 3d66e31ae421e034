"""Class-weighted cross-entropy ("CBW"): each class has a weight inverse to its number of training images.

Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import unknown_name
from longtail.losses.base import Absent, Loss, Reduction, pick
from longtail.ranges import check_number

Normalize = Literal["data", "batch"]


def mean_one_over_images(weights_C: Tensor, counts_C: Tensor) -> Tensor:
    """Scale class weights to mean 1 over the training images. Shape (C,), float32.

    The weighted mean of a batch then has the magnitude of a plain mean. PyTorch's `cross_entropy(weight=...)` achieves
    this by dividing by the sum of the weights in the batch. Dividing by the batch would make the gradient of an example
    depend on the rest of its batch, and the gradient of several ranks differ from that of one process.

    Under a sampler that changes the class frequencies, the mean over a batch is not 1: under class-balanced sampling of
    CIFAR-100-LT (IF 100) it is about 5 for LDAM-DRW, and so is the factor of the gradient. `normalize="batch"` of the
    weighted losses avoids this.

    Example:
        >>> mean_one_over_images(torch.tensor([1.0, 3.0]), torch.tensor([30, 10]))
        tensor([0.6667, 2.0000])
    """
    return (weights_C * (counts_C.sum() / (weights_C.double() * counts_C).sum())).float()


class WeightedLoss(Loss):
    """Base class of losses with class weights `weights_C`, which a subclass registers as a buffer.

    Args:
        class_counts: Training images per class, shape (C,).
        normalize: "data" keeps the class weights as they are. "batch" divides them by their mean over the rows of the
            batch that are not ignored, so that the mean of a batch is that of PyTorch's `cross_entropy(weight=...)`.
            With soft targets, the weight of a row is the expectation over its classes. Each rank uses its own batch.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `normalize` is unknown.
    """

    balances: ClassVar[bool] = True
    weights_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        normalize: Normalize = "data",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        if normalize not in get_args(Normalize):
            raise unknown_name("normalization of class weights", normalize, get_args(Normalize))
        self.normalize = normalize

    @property
    def weighs(self) -> bool:
        """Whether the class weights apply at this point of the training. True by default."""
        return True

    def forward(self, logits_BC: Tensor, targets: Tensor, *extra: Tensor) -> Tensor:
        """Compute the loss of a batch, see `Loss.forward`."""
        loss = super().forward(logits_BC, targets, *extra)
        if self.normalize == "data" or not self.weighs:
            return loss
        return loss / self._mean_weight(targets)

    def _mean_weight(self, targets: Tensor) -> Tensor:
        """Return the mean weight over the rows that are not ignored, a scalar; 1 if all are."""
        if targets.ndim == 2:
            weight = (targets.to(self.weights_C.dtype) @ self.weights_C).mean()
            return torch.where(weight > 0, weight, 1.0)
        kept_B = targets != self.ignore_index
        weights_B = torch.where(kept_B, self.weights_C[torch.where(kept_B, targets, 0).long()], 0.0)
        kept_B = kept_B & (weights_B > 0)  # an absent class has the weight 0
        return torch.where(kept_B.any(), weights_B.sum() / kept_B.sum().clamp(min=1), 1.0)


class WeightedCrossEntropy(WeightedLoss):
    """Cross-entropy with weight `N / (C * n_y)`, the "balanced" weights of scikit-learn.

    With another `power` it is the generalized re-weighting of DisAlign (Zhang et al., CVPR 2021,
    https://arxiv.org/abs/2103.16370): weights proportional to n_y ** -power, with mean 1 over the training images.
    With soft targets, the loss of each class is weighted by the weight of that class.

    Args:
        class_counts: Training images per class, shape (C,).
        power: Exponent of the inverse counts. 1 (default) weights a class by the inverse of its count, 0 all classes
            equally. DisAlign uses 1.2 on ImageNet-LT.
        normalize: Normalization of the class weights: "data" (default) has mean 1 over the training images, "batch"
            over each batch, see `WeightedLoss`.
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

    convex = True

    def __init__(
        self,
        class_counts: Countable,
        *,
        power: float = 1.0,
        normalize: Normalize = "data",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(
            class_counts, normalize=normalize, reduction=reduction, ignore_index=ignore_index, absent=absent
        )
        check_number("power", power, "1: weights inverse to the counts", at_least=0)
        self.power = power
        inverse_C = torch.where(self.absent_C, 0.0, self.counts_C.double().clamp(min=1) ** -power)
        self.register_buffer("weights_C", mean_one_over_images(inverse_C, self.counts_C), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return pick(self.weights_C * -F.log_softmax(logits_BC, dim=1), targets)
