"""Balanced sigmoid: Balanced Softmax for multiple binary decisions (Ren et al., "Balanced Meta-Softmax", NeurIPS 2020).

https://arxiv.org/abs/2007.10740 and its supplement. The logit of class j is lowered by
log((N/K) / n_j * (N - n_j) / (N - N/K)), which is the same as adding logit(n_j / N) - logit(1 / K). The binary
cross-entropies of the K classes are summed. Rows that contain only background are not shifted: less pressure on
background would cause false positives in a detector. At test time, use the logits without the shift.

The authors' code for LVIS (`cunjunyu/BalancedMetaSoftmax-InstanceSeg`) counts the images that contain a class and omits
the constant, which corresponds to `test_rate=0.5`. It initializes the bias of the last layer to -log((1 - p) / p) with
p = 0.001.
Shapes: B = batch (rows: images or proposals), C = K = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError, first_ten
from longtail.losses.base import Absent, Loss, Reduction
from longtail.ranges import check_number


class BalancedSigmoid(Loss):
    """Sum of the binary cross-entropies of all classes, with each logit shifted by the rarity of its class.

    Use it for multi-label data and detectors. The target of a row may name one class, several (a row of 0 and 1, or
    weights), or none. A row without a class is background and is not shifted. Background is a row of zeros or the
    label C; the model has C outputs.

    Args:
        class_counts: Training images that contain each class, shape (C,).
        num_images: Total number of training images. Default: the sum of the counts, for single-label data.
        test_rate: Expected share of test rows that contain a given class, in (0, 1). Default: 1 / C.
        reduction: Reduction over the batch, see `Loss`. The mean is over all rows, background included.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`) or is in every image, or an option is out of range.

    Example:
        >>> import torch
        >>> loss = BalancedSigmoid([80, 20], test_rate=0.5, reduction="none")
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> loss(logits, torch.tensor([1])), loss(logits, torch.tensor([2]))  # 2 * log 5, and background: 2 * log 2
        (tensor([3.2189]), tensor([1.3863]))
    """

    balances: ClassVar[bool] = True
    convex = True
    takes_background: ClassVar[bool] = True
    shift_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        num_images: int | None = None,
        test_rate: float | None = None,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        counts_C = self.counts_C.double()
        check_number("num_images", num_images, "the total of images", integer=True, optional=True, at_least=1)
        check_number("test_rate", test_rate, "default: 1 / C", optional=True, above=0, below=1)
        total = float(counts_C.sum()) if num_images is None else num_images
        rate = 1 / int((~self.absent_C).sum()) if test_rate is None else test_rate
        if bool((counts_C >= total).any()):
            everywhere = torch.nonzero(counts_C >= total).flatten().tolist()
            raise InputError(
                f"{len(everywhere)} classes are in all of the {total:g} images and cannot be learned:\n"
                f"{first_ten(everywhere)}\nRemove these classes, or set `num_images` to the total number of images."
            )
        self.num_images, self.test_rate = num_images, test_rate
        shift_C = torch.logit(counts_C / total) - torch.logit(torch.tensor(rate, dtype=torch.float64))
        self.register_buffer("shift_C", shift_C.masked_fill(self.absent_C, 0.0).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each row, shape (B,)."""
        if targets.ndim == 1:
            classes_C = torch.arange(len(self.counts_C), device=targets.device)
            targets = (targets.unsqueeze(1) == classes_C).to(logits_BC.dtype)
        foreground_B1 = targets.sum(dim=1, keepdim=True) > 0
        logits_BC = torch.where(foreground_B1, logits_BC + self.shift_C, logits_BC)
        return -(targets * F.logsigmoid(logits_BC) + (1 - targets) * F.logsigmoid(-logits_BC)).sum(dim=1)
