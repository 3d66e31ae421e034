"""Seesaw loss (Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021).

https://arxiv.org/abs/2008.10032: L = -log( e^z_i / (e^z_i + sum_{j != i} S_ij e^z_j) ) with S = M C, the mitigation
M_ij = min(1, (N_j / N_i)^p) by the images seen so far, and the compensation C_ij = max(1, (s_j / s_i)^q) by the scores.
The smallest s_i of 0.01 is in the authors' code (`open-mmlab/mmdetection`), not in the paper. Their code counts on each
rank apart; we add the batches of all ranks. Their objectness branch belongs to detectors and is left out.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, pick

SMALLEST_SCORE = 0.01


class SeesawLoss(Loss):
    """Cross-entropy that pushes rare classes down less, unless they are scored above the true one.

    In training mode each batch is counted before its loss is taken, so the counts are those of what the sampler
    drew, and are saved with the loss; `eval()` stops the counting. A soft target stands for a class whose count and
    score are the averages over the target: the expectation of the loss would need a table of (B, C, C).

    Args:
        class_counts: training images per class, shape (C,); used for absent classes only.
        p: of the ratio of the counts; 0 switches the mitigation off.
        q: of the ratio of the scores; 0 switches the compensation off.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or `p` or `q` is negative.

    Example:
        >>> import torch
        >>> seesaw = SeesawLoss([90, 10])
        >>> seesaw(torch.zeros(10, 2), torch.tensor([0] * 9 + [1])), seesaw.seen_C
        (tensor(0.2125), tensor([9., 1.]))
    """

    balances: ClassVar[bool] = True
    seen_C: Tensor

    def __init__(
        self, class_counts: Countable, *, p: float = 0.8, q: float = 2.0, **contract: Unpack[Contract]
    ) -> None:
        super().__init__(class_counts, **contract)
        if not (p >= 0 and q >= 0):
            raise InputError(f"p and q must be >= 0 (0.8 and 2 in the paper), not {p} and {q}")
        self.p, self.q = p, q
        self.register_buffer("seen_C", torch.zeros_like(self.counts_C))

    def observe(self, targets: Tensor, kept_B: Tensor | None) -> None:
        """Count a training batch, over all ranks."""
        if kept_B is None:
            batch_C = targets.detach().sum(dim=0).to(self.seen_C.dtype)
        else:
            batch_C = torch.zeros_like(self.seen_C).index_add(0, targets, kept_B.to(self.seen_C.dtype))
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(batch_C)
        self.seen_C += batch_C

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,)."""
        seen_BC = self.seen_C.to(logits_BC.dtype).clamp(min=1).expand_as(logits_BC)
        scores_BC = F.softmax(logits_BC.detach(), dim=1)
        own_seen_B1 = pick(seen_BC, targets).unsqueeze(1)
        own_score_B1 = pick(scores_BC, targets).clamp(min=SMALLEST_SCORE).unsqueeze(1)
        mitigation_BC = self.p * (seen_BC / own_seen_B1).clamp(max=1).log()
        compensation_BC = self.q * (scores_BC / own_score_B1).clamp(min=1).log()
        total_B1 = (logits_BC + mitigation_BC + compensation_BC).logsumexp(dim=1, keepdim=True)
        return pick(total_B1 - logits_BC, targets)
