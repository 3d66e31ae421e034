"""Spread-out regularizer (Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017).

https://arxiv.org/abs/1708.06320: M_1^2 + [M_2 - 1/d]_+, where M_1 is the mean of u^T u' over pairs of unit embeddings
and M_2 the mean of its square. For points spread evenly over the sphere they are 0 and 1/d. The paper uses pairs of
different classes. Appendix D of the ELM paper, Eqs. 7 to 9, uses all pairs x != x', including those of one class:
`pairs="all"`.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.pairs import other_class, unit
from longtail.errors import unknown_name

Pairs = Literal["other-class", "all"]


class SpreadOutLoss(EmbeddingLoss):
    """Regularizer that spreads the directions of the embeddings over the sphere.

    All examples of a batch have the value of the batch.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D, or None for any.
        pairs: Pairs of examples: "other-class" (default), or "all" to include pairs of one class.
        weight: Factor of the loss, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Raises:
        InputError: If `pairs` is unknown.

    Example:
        >>> spread = SpreadOutLoss([5, 5], weight=1.0)
        >>> spread(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([0, 1]))  # 0.6^2 + [0.6^2 - 1/2]_+
        tensor(0.3600)
    """

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        pairs: Pairs = "other-class",
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts, embedding_dim, weight=weight, ignore_index=ignore_index)
        if pairs not in get_args(Pairs):
            raise unknown_name("kind of pairs", pairs, get_args(Pairs))
        self.pairs = pairs

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the value of the batch, shape (B,)."""
        unit_BD = unit(embeddings_BD)
        cosines_BB = unit_BD @ unit_BD.T
        if self.pairs == "all":
            rows_B = torch.arange(len(targets_B), device=targets_B.device)
            valid_BB = other_class(torch.where(targets_B >= 0, rows_B, targets_B))
        else:
            valid_BB = other_class(targets_B)
        num_pairs = valid_BB.sum().clamp(min=1)
        first = torch.where(valid_BB, cosines_BB, 0.0).sum() / num_pairs
        second = torch.where(valid_BB, cosines_BB.square(), 0.0).sum() / num_pairs
        return (first.square() + F.relu(second - 1 / embeddings_BD.shape[1])).expand(len(targets_B))
