"""Cross-entropy: the baseline, blind to the class counts."""

from torch import Tensor

from longtail.losses.base import Loss, cross_entropy


class CrossEntropy(Loss):
    """Softmax cross-entropy, `-log softmax(z)_y`, under the contract of every other loss.

    Args:
        class_counts: training images per class, shape (C,); used for absent classes only.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Example:
        >>> import torch
        >>> CrossEntropy([90, 10])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(0.6931)
    """

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        return cross_entropy(logits_BC, targets)
