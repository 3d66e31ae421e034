"""Post-hoc logit adjustment (Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021).

https://arxiv.org/abs/2007.07314, Eq. 9: predict argmax_c z_c - tau log pi_c, where z are the logits of a network
trained with cross-entropy and pi is its training prior. tau = 1 is optimal for calibrated logits and a class-balanced
test set; LADE (Hong et al., CVPR 2021) calls it PC-softmax. Not meant for networks trained with a balanced loss.

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
    """Subtract `tau` times the log prior from logits.

    Args:
        logits_BC: Logits of a network trained with cross-entropy, shape (B, C).
        class_counts: Training images per class, shape (C,).
        tau: Strength; 0 changes nothing.

    Returns:
        Adjusted logits, shape (B, C).

    Raises:
        InputError: If a class has no training image, so that its log prior is undefined.

    Example:
        >>> adjust_logits(torch.tensor([[1.0, 0.0]]), [90, 10]).argmax().item()
        1
    """
    return logits_BC - tau * _log_prior(ClassCounts(class_counts)).to(logits_BC)


class LogitAdjustment(Strength):
    """Post-hoc logit adjustment: subtracts `tau` times the log prior from the bias of a linear head (Eq. 9).

    Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314.

    Args:
        tau: Strength >= 0. None (default) chooses it by balanced accuracy on the held-out examples passed to `fit`.

    Raises:
        InputError: If `tau` is negative.

    Example:
        >>> head, features = nn.Linear(2, 2), torch.randn(4, 2)
        >>> adjusted = LogitAdjustment(tau=1.0).fit(features, torch.tensor([0, 1, 0, 1]), head, [90, 10])
        >>> bool(torch.allclose(adjusted.predict_logits(features), adjust_logits(head(features), [90, 10])))
        True
    """

    meaning_of_one = "for calibrated logits"

    @property
    def needs_every_class(self) -> bool:
        """True, because the log prior of a class without a training image is undefined."""
        return True

    @torch.no_grad()
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Choose tau unless it is given, and adjust the bias.

        Args:
            features_ND: Embeddings of held-out images, shape (N, D). Only used to choose tau.
            targets_N: Labels in [0, C), shape (N,).
            head: The trained last layer.
            class_counts: Training images per class, shape (C,).

        Raises:
            InputError: If counts and head differ in the number of classes, a class has no training image, or tau is to
                be chosen without examples.
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
            f"{len(missing)} classes have no training image, so their log prior is undefined:\n{first_ten(missing)}\n"
            "remove these classes, or add images"
        )
    return counts.prior.log()
