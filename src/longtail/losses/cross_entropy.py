"""Cross-entropy, the baseline that ignores the class counts."""

from torch import Tensor

from longtail.losses.base import Loss, cross_entropy


class CrossEntropy(Loss):
    """Softmax cross-entropy, `-log softmax(z)_y`.

    The baseline, with the same interface as all other losses.

    Args:
        class_counts: Training images per class, shape (C,); used only for absent classes.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`).

    Example:
        >>> import torch
        >>> CrossEntropy([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.6931)
    """

    convex = True

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        return cross_entropy(logits_BC, targets)
