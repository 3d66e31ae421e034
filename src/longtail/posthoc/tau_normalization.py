"""Classifier normalization (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, Eq. 3: each class vector w_c becomes w_c / |w_c|^tau, because cross-entropy training
gives frequent classes longer vectors. tau = 1 gives equal lengths, tau = 0 changes nothing. As in the paper and its
code, the bias is dropped.

Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from typing import Self

import torch
from torch import Tensor, nn

from longtail.data.counts import Countable
from longtail.models.heads import linear_head
from longtail.posthoc.base import Strength, checked_counts, choose_strength


def tau_normalized(weight_CD: Tensor, tau: float) -> Tensor:
    """Divide class vectors by their length to the power `tau`.

    Args:
        weight_CD: Class vectors, shape (C, D).
        tau: Strength; 0 changes nothing, 1 gives unit length.

    Example:
        >>> tau_normalized(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), tau=1.0)
        tensor([[0.6000, 0.8000], [0.0000, 1.0000]])
    """
    norms_C1: Tensor = torch.linalg.vector_norm(weight_CD, dim=1, keepdim=True)
    return weight_CD / norms_C1.clamp(min=1e-12).pow(tau)


class TauNormalization(Strength):
    """tau-normalization of a linear head: w_c / |w_c|^tau without bias (Eq. 3).

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    https://arxiv.org/abs/1910.09217.

    Args:
        tau: Strength >= 0. None (default) chooses it by balanced accuracy on the held-out examples passed to `fit`.

    Raises:
        InputError: If `tau` is negative.

    Example:
        >>> head, features = nn.Linear(2, 2), torch.randn(4, 2)
        >>> fitted = TauNormalization(tau=1.0).fit(features, torch.tensor([0, 1, 0, 1]), head, [90, 10])
        >>> bool(torch.allclose(fitted.head.weight.norm(dim=1), torch.ones(2)))
        True
    """

    meaning_of_one = "gives all class vectors the same length"

    @torch.no_grad()
    def fit(self, features_ND: Tensor, targets_N: Tensor, head: nn.Linear, class_counts: Countable) -> Self:
        """Choose tau unless it is given, and rescale the class vectors.

        Args:
            features_ND: Embeddings of held-out images, shape (N, D). Only used to choose tau.
            targets_N: Labels in [0, C), shape (N,).
            head: The trained last layer.
            class_counts: Training images per class, shape (C,); only its length is checked.

        Raises:
            InputError: If counts and head differ in the number of classes, or tau is to be chosen without examples.
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
