"""Label-aware smoothing (Zhong et al., "Improving Calibration for Long-Tailed Recognition", CVPR 2021; MiSLAS).

https://arxiv.org/abs/2104.00466: label smoothing by an epsilon that grows with the number of images of the true class,
since frequent classes are over-confident. The paper uses the loss in its second stage with a class-balanced sampler.

As in the text, epsilon is distributed over the *other* classes. The authors' code (`JIA-Lab-research/MiSLAS`, issue 4)
distributes it over all classes, which corresponds to smoothing by epsilon (C - 1) / C.
Shapes: B = batch, C = classes.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import unknown_name
from longtail.losses.base import Absent, Loss, Reduction, pick
from longtail.ranges import check_number

Shape = Literal["concave", "linear", "convex"]


def smoothing_of_classes(counts_C: Tensor, head: float, tail: float, shape: Shape) -> Tensor:
    """Return the epsilon of each class, from `tail` for the rarest to `head` for the most frequent. Shape (C,).

    With equal counts, every class has `tail`.

    Example:
        >>> smoothing_of_classes(torch.tensor([101, 51, 1]), head=0.4, tail=0.0, shape="linear")
        tensor([0.4000, 0.2000, 0.0000], dtype=torch.float64)
    """
    rarest = counts_C[counts_C > 0].min()
    share_C = (counts_C - rarest).clamp(min=0).double() / (counts_C.max() - rarest).clamp(min=1)
    if shape == "concave":
        share_C = torch.sin(share_C * math.pi / 2)
    elif shape == "convex":
        share_C = 1 - torch.cos(share_C * math.pi / 2)
    return tail + (head - tail) * share_C


class LabelAwareSmoothing(Loss):
    """Cross-entropy with label smoothing that grows with the number of images of the true class.

    Improves calibration. It does not balance the classes: combine it with a class-balanced sampler. With soft targets,
    the loss is the expectation over the classes.

    Args:
        class_counts: Training images per class, shape (C,).
        head: Smoothing of the most frequent class, in [0, 1). The authors use 0.3 (default) for most data and 0.4 for
            CIFAR-100-LT.
        tail: Smoothing of the rarest class, in [0, 1). The authors use 0 (default) for most data and 0.1 for
            CIFAR-100-LT.
        shape: Growth of the smoothing with the number of images: "concave" (default, preferred by the paper), "linear"
            or "convex".
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is out of range.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> LabelAwareSmoothing([100, 1], head=0.1, reduction="none")(logits, torch.tensor([0, 1]))
        tensor([0.3269, 0.1269])
    """

    convex = True
    smoothing_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        head: float = 0.3,
        tail: float = 0.0,
        shape: Shape = "concave",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("head", head, at_least=0, below=1)
        check_number("tail", tail, at_least=0, below=1)
        if shape not in get_args(Shape):
            raise unknown_name("shape of the smoothing", shape, get_args(Shape))
        self.head, self.tail, self.shape = head, tail, shape
        smoothing_C = smoothing_of_classes(self.counts_C, head, tail, shape)
        self.register_buffer("smoothing_C", smoothing_C.float(), persistent=False)
        self.num_present = int((self.counts_C > 0).sum())

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        costs_BC = -F.log_softmax(logits_BC, dim=1).masked_fill(self.absent_C, 0.0)
        others_BC = (costs_BC.sum(dim=1, keepdim=True) - costs_BC) / max(self.num_present - 1, 1)
        return pick(torch.lerp(costs_BC, others_BC, self.smoothing_C.to(costs_BC.dtype)), targets)
