"""A running mean of the embeddings of each class.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

import torch
from torch import Tensor, nn

from longtail.embedding.pairs import over_all_ranks, rank_within
from longtail.errors import InputError


class Centroids(nn.Module):
    """Centroids that move, in each batch that shows their class, a share of the way to its mean there.

    The first batch that shows a class sets its centroid. No gradient flows into them. Several ranks share them.

    Args:
        num_classes: C.
        embedding_dim: D.
        momentum: what is kept of a centroid in such a batch, in [0, 1).

    Raises:
        InputError: if `momentum` is out of its range.

    Example:
        >>> centroids = Centroids(2, 1, momentum=0.9)
        >>> centroids.update(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
        >>> centroids.update(torch.tensor([[12.0]]), torch.tensor([0]))
        >>> centroids.means_CD.flatten(), centroids.seen_C
        (tensor([3., 0.]), tensor([ True, False]))
    """

    means_CD: Tensor
    seen_C: Tensor

    def __init__(self, num_classes: int, embedding_dim: int, momentum: float) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise InputError(f"momentum is the share of a centroid that is kept, in [0, 1) (0.9, say), not {momentum}")
        self.momentum = momentum
        self.register_buffer("means_CD", torch.zeros(num_classes, embedding_dim))
        self.register_buffer("seen_C", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def update(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Move the centroids; rows with a negative label are left out."""
        embeddings_BD, targets_B = over_all_ranks(embeddings_BD.detach(), targets_B)
        order_B, rank_B, starts_B = rank_within(targets_B)
        kept_B, classes_B = targets_B[order_B] >= 0, targets_B[order_B].clamp(min=0)
        rows_BD = torch.where(kept_B[:, None], embeddings_BD[order_B], 0.0).to(self.means_CD.dtype)
        sums_BD = torch.zeros_like(rows_BD).index_add(0, starts_B, rows_BD)  # of a class: in its first row
        counts_B = torch.zeros_like(starts_B).index_add(0, starts_B, torch.ones_like(starts_B)).clamp(min=1)
        rate_B = torch.where(self.seen_C[classes_B], 1 - self.momentum, 1.0) * (kept_B & (rank_B == 0))
        self.means_CD.index_add_(
            0, classes_B, rate_B[:, None] * (sums_BD / counts_B[:, None] - self.means_CD[classes_B])
        )
        self.seen_C |= torch.zeros_like(self.seen_C, dtype=torch.long).index_add(0, classes_B, kept_B.long()) > 0

    def of(self, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """The centroid of each row's class, shape (B, D), and whether there is one yet, shape (B,)."""
        classes_B = targets_B.clamp(min=0)
        return self.means_CD[classes_B], self.seen_C[classes_B] & (targets_B >= 0)
