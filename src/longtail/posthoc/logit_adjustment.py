"""Post-hoc logit adjustment (Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021).

https://arxiv.org/abs/2007.07314, Eq. 9: predict the largest z_c - tau log pi_c with the logits z of a net trained with
cross-entropy and the class priors pi of its training. tau = 1 is right for calibrated logits and a test with all
classes equally frequent; LADE (Hong et al., CVPR 2021) calls it PC-softmax. Not for a net whose loss has balanced.
Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from typing import Self

import torch
from torch import Tensor, nn

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, first_ten
from longtail.models.heads import linear_head
from longtail.posthoc.base import Strength, checked_counts, choose_strength


def adjust_logits(logits_BC: Tensor, class_counts: Countable, tau: float = 1.0) -> Tensor:
    """Logits less `tau` times the log prior, shape (B, C).

    Args:
        logits_BC: of a net trained with cross-entropy, shape (B, C).
        class_counts: images per class that it was trained on, shape (C,).
        tau: strength.

    Raises:
        InputError: if a class has no training image, since its prior has no logarithm.

    Example:
        >>> adjust_logits(torch.tensor([[1.0, 0.0]]), [90, 10]).argmax().item()
        1
    """
    return logits_BC - tau * _log_prior(ClassCounts(class_counts)).to(logits_BC)


class LogitAdjustment(Strength):
    """Shifts the bias of a linear head by the log prior.

    Args:
        tau: strength; None chooses it by balanced accuracy on what `fit` is given: held-out training images.

    Raises:
        InputError: if `tau` is negative.

    Example:
        >>> head, features = nn.Linear(2, 2), torch.randn(4, 2)
        >>> adjusted = LogitAdjustment(tau=1.0).fit(features, torch.tensor([0, 1, 0, 1]), head, [90, 10])
        >>> bool(torch.allclose(adjusted.predict_logits(features), adjust_logits(head(features), [90, 10])))
        True
    """

    one = "for calibrated logits"

    @torch.no_grad()
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Choose tau, if none was given, and shift the bias.

        Raises:
            InputError: if counts and head do not fit, a class has no training image, or there is no example to choose
                by.
        """
        log_prior_C = _log_prior(checked_counts(class_counts, head)).to(head.weight)
        if not self.given:
            logits_NC = head(features_ND.to(head.weight.dtype))
            self.tau = choose_strength(lambda tau: logits_NC - tau * log_prior_C, targets_N, head.out_features)
        assert self.tau is not None
        bias_C = torch.zeros_like(log_prior_C) if head.bias is None else head.bias
        self.head = linear_head(head.weight, bias_C - self.tau * log_prior_C)
        return self


def _log_prior(counts: ClassCounts) -> Tensor:
    missing = torch.nonzero(counts.counts == 0).flatten().tolist()
    if missing:
        raise InputError(
            f"{len(missing)} classes have no training image, so their prior has no logarithm:\n{first_ten(missing)}\n"
            "leave them out, or give them images"
        )
    return counts.prior.log()
