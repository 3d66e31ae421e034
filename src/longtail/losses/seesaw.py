"""Seesaw loss (Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021).

https://arxiv.org/abs/2008.10032: L = -log( e^z_i / (e^z_i + sum_{j != i} S_ij e^z_j) ) with S = M C. The mitigation
factor M_ij = min(1, (N_j / N_i)^p) depends on the images seen so far, the compensation factor
C_ij = max(1, (s_j / s_i)^q) on the scores.

The lower bound of 0.01 on s_i is in the authors' code (`open-mmlab/mmdetection`), not in the paper. Their code counts
on each rank separately; this implementation sums the batches of all ranks. The objectness branch for detectors is not
included.
Shapes: B = batch, C = classes.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, pick
from longtail.ranges import check_number

SMALLEST_SCORE = 0.01


class SeesawLoss(Loss):
    """Cross-entropy with reduced negative gradients on rare classes, except where they score above the true class.

    In training mode, each batch is counted before its loss is computed. The counts therefore follow the sampler, and
    they are saved in the state dict; `eval()` stops the counting. They are exact also beyond 2^24, where float32 cannot
    be incremented by one: `lost_C` holds the rounding error of `seen_C`. A soft target is treated as one class with the
    mean count and mean score of the target, since the expectation of the loss would need a table of shape (B, C, C).

    Args:
        class_counts: Training images per class, shape (C,); used only for absent classes.
        p: Exponent of the count ratio. Default: 0.8; 0 disables the mitigation.
        q: Exponent of the score ratio. Default: 2; 0 disables the compensation.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or `p` or `q` is negative.

    Example:
        >>> import torch
        >>> seesaw = SeesawLoss([90, 10])
        >>> seesaw(torch.zeros(10, 2), torch.tensor([0] * 9 + [1])), seesaw.seen_C
        (tensor(0.2125), tensor([9., 1.]))
    """

    balances: ClassVar[bool] = True
    seen_C: Tensor
    lost_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        p: float = 0.8,
        q: float = 2.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("p", p, "0.8 in the paper", at_least=0)
        check_number("q", q, "2 in the paper", at_least=0)
        self.p, self.q = p, q
        self.register_buffer("seen_C", torch.zeros_like(self.counts_C))
        self.register_buffer("lost_C", torch.zeros_like(self.counts_C))

    def observe(self, targets: Tensor, kept_B: Tensor | None) -> None:
        """Count the classes of a training batch, over all ranks."""
        if kept_B is None:
            batch_C = targets.detach().sum(dim=0).to(self.seen_C.dtype)
        else:
            batch_C = torch.zeros_like(self.seen_C).index_add(0, targets, kept_B.to(self.seen_C.dtype))
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(batch_C)
        added_C = batch_C + self.lost_C
        sum_C = self.seen_C + added_C
        kept_C = sum_C - self.seen_C  # two-sum (Knuth): the rounding error of a sum is a float
        self.lost_C.copy_((self.seen_C - (sum_C - kept_C)) + (added_C - kept_C))
        self.seen_C.copy_(sum_C)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Load a state. Those of version 0.2 and earlier have no `lost_C`."""
        state_dict.setdefault(f"{prefix}lost_C", torch.zeros_like(self.seen_C))
        super()._load_from_state_dict(state_dict, prefix, *others)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,)."""
        seen_BC = self.seen_C.to(logits_BC.dtype).clamp(min=1).expand_as(logits_BC)
        scores_BC = F.softmax(logits_BC.detach(), dim=1)
        own_seen_B1 = pick(seen_BC, targets).unsqueeze(1)
        own_score_B1 = pick(scores_BC, targets).clamp(min=SMALLEST_SCORE).unsqueeze(1)
        mitigation_BC = self.p * (seen_BC / own_seen_B1).clamp(max=1).log()
        compensation_BC = self.q * (scores_BC / own_score_B1).clamp(min=1).log()
        total_B1 = (logits_BC + mitigation_BC + compensation_BC).logsumexp(dim=1, keepdim=True)
        return pick(total_B1 - logits_BC, targets)
