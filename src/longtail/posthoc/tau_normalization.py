"""Classifier normalisation (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, Eq. 3: each class vector w_c becomes w_c / |w_c|^tau, since a net trained with
cross-entropy has longer vectors for fuller classes; tau = 1 makes all equally long, tau = 0 changes nothing. As in the
paper and its code the bias is dropped.
Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from typing import Self

import torch
from torch import Tensor, nn

from longtail.data.counts import Countable
from longtail.models.heads import linear_head
from longtail.posthoc.base import Strength, checked_counts, choose_strength


def tau_normalized(weight_CD: Tensor, tau: float) -> Tensor:
    """Class vectors divided by their length to the power `tau`, shape (C, D).

    Example:
        >>> tau_normalized(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), tau=1.0)
        tensor([[0.6000, 0.8000], [0.0000, 1.0000]])
    """
    norms_C1: Tensor = torch.linalg.vector_norm(weight_CD, dim=1, keepdim=True)
    return weight_CD / norms_C1.clamp(min=1e-12).pow(tau)


class TauNormalization(Strength):
    """Evens out the lengths of the class vectors of a linear head.

    Args:
        tau: strength; None chooses it by balanced accuracy on what `fit` is given: held-out training images.

    Raises:
        InputError: if `tau` is negative.

    Example:
        >>> head, features = nn.Linear(2, 2), torch.randn(4, 2)
        >>> fitted = TauNormalization(tau=1.0).fit(features, torch.tensor([0, 1, 0, 1]), head, [90, 10])
        >>> bool(torch.allclose(fitted.head.weight.norm(dim=1), torch.ones(2)))
        True
    """

    one = "makes all class vectors equally long"

    @torch.no_grad()
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Choose tau, if none was given, and rescale the class vectors.

        Raises:
            InputError: if counts and head do not fit, or no example is given to choose by.
        """
        checked_counts(class_counts, head)
        if not self.given:
            # |w|^tau is one factor per class, so the logits are computed once
            logits_NC = features_ND.to(head.weight.dtype) @ head.weight.T
            norms_C = head.weight.norm(dim=1).clamp(min=1e-12)
            self.tau = choose_strength(lambda tau: logits_NC / norms_C**tau, targets_N, head.out_features)
        assert self.tau is not None
        weight_CD = tau_normalized(head.weight, self.tau)
        self.head = linear_head(weight_CD, weight_CD.new_zeros(len(weight_CD)))
        return self
