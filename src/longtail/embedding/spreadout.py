"""Spread-out regulariser (Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017).

https://arxiv.org/abs/1708.06320: M_1^2 + [M_2 - 1/d]_+ with the mean M_1 of u^T u' over pairs of unit embeddings, and
the mean M_2 of its square: 0 and 1/d for points spread evenly over the sphere. Their pairs are non-matching ones.
Appendix D of the ELM paper, Eqs. 7 to 9, writes all pairs x != x', those of one class included: `pairs="all"`.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from typing import Literal, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.embedding.base import Contract, EmbeddingLoss
from longtail.embedding.pairs import other_class, unit
from longtail.errors import unknown_name

Pairs = Literal["other-class", "all"]


class SpreadOutLoss(EmbeddingLoss):
    """Spreads the directions of the embeddings over the sphere; every example of a batch has the batch's value.

    Args:
        class_counts: training images per class, shape (C,).
        embedding_dim: D, or None for any.
        pairs: "other-class", or "all".
        contract: `weight` and `ignore_index`, see `EmbeddingLoss`.

    Raises:
        InputError: for other pairs.

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
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, embedding_dim, **contract)
        if pairs not in get_args(Pairs):
            raise unknown_name("kind of pairs", pairs, get_args(Pairs))
        self.pairs = pairs

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """The value of the batch, shape (B,)."""
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
