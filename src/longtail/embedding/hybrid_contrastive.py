"""Hybrid contrastive term (Liu and Abbeel, "Hybrid Discriminative-Generative Training via Contrastive Learning", 2020).

https://arxiv.org/abs/2007.09070, as Sec. 3.2 of the ELM paper gives it: log(1 + sum over x- of exp(f_y(x-) - f_y(x))).
It contrasts examples under one logit, where cross-entropy contrasts logits of one example. The x- are the examples of
the batch that are of another class; the ELM paper leaves the set open.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math

import torch
from torch import Tensor

from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.pairs import other_class


class HybridContrastiveLoss(EmbeddingLoss):
    """Asks that the logit of a class be higher for its own examples than for others: takes the logits as well.

    Args:
        class_counts: training images per class, shape (C,).
        embedding_dim: D, or None for any; the embeddings themselves are not looked at.
        contract: `weight` and `ignore_index`, see `EmbeddingLoss`.

    Example:
        >>> hybrid = HybridContrastiveLoss([5, 5], weight=1.0)
        >>> embeddings, logits = torch.zeros(2, 3), torch.tensor([[2.0, 0.0], [0.0, 0.0]])
        >>> hybrid(embeddings, torch.tensor([0, 1]), logits)  # of log(1 + e^(0 - 2)) and log(1 + e^(0 - 0))
        tensor(0.4100)
    """

    uses_logits = True

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Loss of each example, shape (B,); the third argument are the logits (B, C)."""
        (logits_BC,) = extra
        of_class_BB = logits_BC[:, targets_B.clamp(min=0)].T  # row: the logit of its class, for each example
        excess_BB = (of_class_BB - of_class_BB.diagonal()[:, None]).masked_fill(~other_class(targets_B), -math.inf)
        return torch.cat([torch.zeros_like(excess_BB[:, :1]), excess_BB], dim=1).logsumexp(dim=1)
