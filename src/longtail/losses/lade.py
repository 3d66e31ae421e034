"""LADE loss (Hong et al., "Disentangling Label Distribution for Long-tailed Visual Recognition", CVPR 2021).

https://arxiv.org/abs/2012.00321: LADE-CE (Eq. 19), which is Balanced Softmax, plus alpha times LADER (Eq. 16). For each
class c, LADER drives z_c toward log p_u(x|c) / p_u(x), where p_u is the distribution with balanced classes. It uses the
regularized Donsker-Varadhan bound: -mean of z_c over the examples of c + log m_c + lambda (log m_c)^2, weighted by the
prior of c. m_c is the mean over the batch of p_u(y) / p_s(y) exp(z_c), where y is the label of each example.

The authors' code (`hyperconnect/LADE`) weights by p_u(c) / p_s(c), the class of the *logit*, which moves the logits
back toward the prior. Importance sampling requires the class of the example, which this implementation uses. As in
their code, a class without an example in the batch keeps its log m_c terms. With several ranks, the terms are those of
the whole batch.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor, distributed

from longtail.data.counts import Countable
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import MASKED, Absent, Loss, Reduction, cross_entropy
from longtail.ranges import check_number


class LADELoss(Loss):
    """Balanced Softmax plus a term that fits each logit to its value on balanced data.

    The term compares the examples of a batch, so the loss of an example depends on the others. To predict under another
    test distribution, add the logarithm of its class prior to the logits.

    Args:
        class_counts: Training images per class, shape (C,).
        alpha: Weight of the regularization term (LADER). Default: 0.1; 0 is Balanced Softmax.
        regularization: Weight of the squared logarithm in the term, lambda. Default: 0.1.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is negative.

    Example:
        >>> import torch
        >>> logits, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> LADELoss([50, 50], alpha=0.0)(logits, targets), LADELoss([50, 50], alpha=1.0)(logits, targets)
        (tensor(0.3133), tensor(-0.0282))
    """

    balances: ClassVar[bool] = True
    shift_C: Tensor
    prior_C: Tensor
    importance_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        alpha: float = 0.1,
        regularization: float = 0.1,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("alpha", alpha, "0.1 in the paper", at_least=0)
        check_number("regularization", regularization, "0.1 in the paper", at_least=0)
        self.alpha, self.regularization = alpha, regularization
        self.convex = alpha == 0
        self.stand_in = len(self.counts_C)
        prior_C = self.counts_C.double() / self.counts_C.double().sum()
        importance_C = torch.where(self.absent_C, 0.0, 1 / ((~self.absent_C).sum() * prior_C))
        self.register_buffer("shift_C", log_prior(self.counts_C), persistent=False)
        self.register_buffer("prior_C", prior_C.float(), persistent=False)
        self.register_buffer("importance_C", importance_C.float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,). The mean over the batch contains LADER once."""
        if targets.ndim == 1:
            classes_C = torch.arange(len(self.counts_C), device=targets.device)
            targets = (targets.unsqueeze(1) == classes_C).to(logits_BC.dtype)  # ignored rows are all zero
        return cross_entropy(logits_BC + self.shift_C, targets) + self.alpha * self._lader(logits_BC, targets)

    def _lader(self, logits_BC: Tensor, weights_BC: Tensor) -> Tensor:
        """Compute terms of shape (B,) whose mean over the batch is LADER."""
        importance_B = (weights_BC * self.importance_C).sum(dim=1)
        log_importance_B = torch.where(importance_B > 0, importance_B.clamp(min=1e-30).log(), MASKED)
        weighted_BC = logits_BC + log_importance_B.unsqueeze(1)
        tops_C = _largest_over_ranks(
            weighted_BC.detach().amax(dim=0) if len(weighted_BC) else torch.full_like(self.prior_C, MASKED)
        )
        sums_C = _sum_over_ranks((weighted_BC - tops_C).exp().sum(dim=0))
        sizes_C = _sum_over_ranks(weights_BC.sum(dim=0))  # examples of each class
        size = sizes_C.sum()
        log_means_C = tops_C + sums_C.log() - size.clamp(min=1).log()
        log_means_C = torch.where(self.absent_C | (size == 0), 0.0, log_means_C)
        shared = (self.prior_C * (log_means_C + self.regularization * log_means_C**2)).sum()
        share_C = torch.where(sizes_C > 0, self.prior_C * size / sizes_C, 0.0)
        return shared - (share_C * weights_BC * logits_BC).sum(dim=1)


def _several_ranks() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _largest_over_ranks(values_C: Tensor) -> Tensor:
    if _several_ranks():
        distributed.all_reduce(values_C, distributed.ReduceOp.MAX)
    return values_C


def _sum_over_ranks(values_C: Tensor) -> Tensor:
    """Return the sum over all ranks; its gradient reaches the values of every rank."""
    if not _several_ranks():
        return values_C
    from torch.distributed.nn.functional import all_reduce  # not in every build of torch

    total: Tensor = all_reduce(values_C)  # type: ignore[no-untyped-call]
    return total
