"""LADE loss (Hong et al., "Disentangling Label Distribution for Long-tailed Visual Recognition", CVPR 2021).

https://arxiv.org/abs/2012.00321: LADE-CE (Eq. 19), which is Balanced Softmax, plus alpha times LADER (Eq. 16). For each
class c, LADER drives z_c towards log p_u(x|c) / p_u(x), p_u being the data with all classes equally full, by the
regularised Donsker-Varadhan bound: -mean of z_c over the examples of c + log m_c + lambda (log m_c)^2, weighted by the
prior of c, where m_c is the mean of p_u(y) / p_s(y) exp(z_c) over the batch, y being the label of each example. The
authors' code (`hyperconnect/LADE`) weights by p_u(c) / p_s(c), with the class of the *logit*, which pulls the logits
towards the prior again; importance sampling needs that of the example. As in the code, a class with no example in the
batch keeps its log m_c terms. Several ranks act as one: the terms are those of the whole batch.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor, distributed

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.balanced_softmax import log_prior
from longtail.losses.base import MASKED, Contract, Loss, cross_entropy


class LADELoss(Loss):
    """Balanced Softmax, and a term that teaches each logit on its own what it would be on balanced data.

    The term compares the examples of a batch, so the loss of one depends on the others. To serve another class
    distribution at test time, add its logarithm to the logits.

    Args:
        class_counts: training images per class, shape (C,).
        alpha: weight of the term (LADER); 0 is Balanced Softmax.
        regularization: lambda, weight of the squared logarithm in the term.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or an option is negative.

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
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, **contract)
        if not (alpha >= 0 and regularization >= 0):
            raise InputError(
                f"alpha and regularization must be >= 0 (0.1 in the paper), not {alpha} and {regularization}"
            )
        self.alpha, self.regularization = alpha, regularization
        self.stand_in = len(self.counts_C)
        prior_C = self.counts_C.double() / self.counts_C.double().sum()
        importance_C = torch.where(self.absent_C, 0.0, 1 / ((~self.absent_C).sum() * prior_C))
        self.register_buffer("shift_C", log_prior(self.counts_C), persistent=False)
        self.register_buffer("prior_C", prior_C.float(), persistent=False)
        self.register_buffer("importance_C", importance_C.float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,); their mean holds LADER once."""
        if targets.ndim == 1:
            classes_C = torch.arange(len(self.counts_C), device=targets.device)
            targets = (targets.unsqueeze(1) == classes_C).to(logits_BC.dtype)  # ignored ones: a row of zeros
        return cross_entropy(logits_BC + self.shift_C, targets) + self.alpha * self._lader(logits_BC, targets)

    def _lader(self, logits_BC: Tensor, weights_BC: Tensor) -> Tensor:
        """LADER, in parts of shape (B,) whose mean over the batch it is."""
        importance_B = (weights_BC * self.importance_C).sum(dim=1)
        log_importance_B = torch.where(importance_B > 0, importance_B.clamp(min=1e-30).log(), MASKED)
        weighted_BC = logits_BC + log_importance_B.unsqueeze(1)
        tops_C = _largest_over_ranks(weighted_BC.detach().amax(dim=0))
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
    """The sum, whose gradient reaches the values of every rank."""
    if not _several_ranks():
        return values_C
    from torch.distributed.nn.functional import all_reduce  # not in every build of torch

    total: Tensor = all_reduce(values_C)  # type: ignore[no-untyped-call]
    return total
