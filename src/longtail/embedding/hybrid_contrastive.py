"""Hybrid contrastive term (Liu and Abbeel, "Hybrid Discriminative-Generative Training via Contrastive Learning", 2020).

https://arxiv.org/abs/2007.09070, as given in Sec. 3.2 of the ELM paper: log(1 + sum over x- of exp(f_y(x-) - f_y(x))).
The term contrasts examples under one logit, where cross-entropy contrasts the logits of one example. The x- are the
examples of the batch from another class; the ELM paper does not specify the set.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math

import torch
from torch import Tensor

from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.pairs import other_class


class HybridContrastiveLoss(EmbeddingLoss):
    """Contrast of the logit of a class between its own examples and those of other classes.

    Call it with the logits: `loss(embeddings, targets, logits)`.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D, or None for any. The embeddings themselves are not used.
        weight: Factor of the loss, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Example:
        >>> hybrid = HybridContrastiveLoss([5, 5], weight=1.0)
        >>> embeddings, logits = torch.zeros(2, 3), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> hybrid(embeddings, torch.tensor([0, 1]), logits)  # mean of log(1 + e^(0 - 2)) and log(1 + e^(0 - 0))
        tensor(0.4100)
    """

    uses_logits = True

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,), from the logits (B, C) in the third argument."""
        (logits_BC,) = extra
        of_class_BB = logits_BC[:, targets_B.clamp(min=0)].T  # row: the logit of its class, for each example
        excess_BB = (of_class_BB - of_class_BB.diagonal()[:, None]).masked_fill(~other_class(targets_B), -math.inf)
        return torch.cat([torch.zeros_like(excess_BB[:, :1]), excess_BB], dim=1).logsumexp(dim=1)
