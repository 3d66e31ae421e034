"""Balanced sigmoid: Balanced Softmax for several binary decisions (Ren et al., "Balanced Meta-Softmax", NeurIPS 2020).

https://arxiv.org/abs/2007.10740 and its supplement: the logit of class j is lowered by
log((N/K) / n_j * (N - n_j) / (N - N/K)), in other words raised by logit(n_j / N) - logit(1 / K), and the binary
cross-entropies of the K classes are summed. For detectors the shift is left out where there is only background: less
pressure on background would make false positives. The authors' code for LVIS
(`cunjunyu/BalancedMetaSoftmax-InstanceSeg`) counts the images that hold a class, and drops the constant, which is
`test_rate=0.5`. It starts the bias of the last layer at -log((1 - p) / p) with p = 0.001. At test time the logits are
used as they are.
Shapes: B = batch (rows: images or proposals), C = K = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError, first_ten
from longtail.losses.base import Contract, Loss


class BalancedSigmoid(Loss):
    """Sum of the binary cross-entropies of all classes, each logit shifted by how rare its class is.

    A row's target may name one class, several (a row of 0 and 1, or weights), or none: then it is background, which is
    not shifted. Background is a row of zeros, or the label C; the net has C outputs.

    Args:
        class_counts: training images that hold each class, shape (C,).
        num_images: training images in all; by default the sum of the counts, for images of one class each.
        test_rate: share of the rows that are expected to hold a given class where the net is used, in (0, 1); by
            default 1 / C.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`. The mean is over rows, background included.

    Raises:
        InputError: if a class has no training image (see `absent`) or is in every image, or an option is out of range.

    Example:
        >>> import torch
        >>> loss = BalancedSigmoid([80, 20], test_rate=0.5, reduction="none")
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> loss(logits, torch.tensor([1])), loss(logits, torch.tensor([2]))  # 2 * log 5, and background: 2 * log 2
        (tensor([3.2189]), tensor([1.3863]))
    """

    balances: ClassVar[bool] = True
    shift_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        num_images: int | None = None,
        test_rate: float | None = None,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, **contract)
        counts_C = self.counts_C.double()
        total = float(counts_C.sum()) if num_images is None else num_images
        rate = 1 / int((~self.absent_C).sum()) if test_rate is None else test_rate
        if bool((counts_C >= total).any()):
            everywhere = torch.nonzero(counts_C >= total).flatten().tolist()
            raise InputError(
                f"{len(everywhere)} classes are in every one of the {total:g} images, so that there is nothing to tell "
                f"apart:\n{first_ten(everywhere)}\nleave them out, or give num_images, the images in all"
            )
        if not 0 < rate < 1:
            raise InputError(f"test_rate must lie between 0 and 1 (1 / C by default), not {rate}")
        shift_C = torch.logit(counts_C / total) - torch.logit(torch.tensor(rate, dtype=torch.float64))
        self.register_buffer("shift_C", shift_C.masked_fill(self.absent_C, 0.0).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row, shape (B,)."""
        if targets.ndim == 1:
            classes_C = torch.arange(len(self.counts_C), device=targets.device)
            targets = (targets.unsqueeze(1) == classes_C).to(logits_BC.dtype)
        foreground_B1 = targets.sum(dim=1, keepdim=True) > 0
        logits_BC = torch.where(foreground_B1, logits_BC + self.shift_C, logits_BC)
        return -(targets * F.logsigmoid(logits_BC) + (1 - targets) * F.logsigmoid(-logits_BC)).sum(dim=1)
