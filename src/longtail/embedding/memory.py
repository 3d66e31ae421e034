"""State that embedding losses keep of each class: a running mean, or the most recent embeddings.

Shapes: B = batch, D = embedding dimension, C = classes, S = slots of a class, G = groups: the classes, and a last one
for the rows that are not stored. Rows of that group go through the same arithmetic and are never read.
"""

import torch
from torch import Tensor, nn

from longtail.embedding.pairs import over_all_ranks, rank_within
from longtail.ranges import check_number


class Centroids(nn.Module):
    """Running mean of the embeddings of each class.

    In a batch that contains a class, its centroid moves toward the mean of the class in the batch by 1 - `momentum`.
    The first such batch sets the centroid. Centroids receive no gradient and are shared by all ranks.

    Args:
        num_classes: Number of classes, C.
        embedding_dim: Embedding dimension, D.
        momentum: Share of a centroid that is kept in such a batch, in [0, 1).

    Raises:
        InputError: If `momentum` is out of range.

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
        check_number("momentum", momentum, "default: 0.9", at_least=0, below=1)
        self.momentum = momentum
        self.register_buffer("means_CD", torch.zeros(num_classes, embedding_dim))
        self.register_buffer("seen_C", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def update(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Move the centroids toward the means of a batch.

        Args:
            embeddings_BD: Embeddings.
            targets_B: Labels. Rows with a negative label are ignored.
        """
        embeddings_BD, targets_B = over_all_ranks(embeddings_BD.detach(), targets_B)
        order_B, rank_B, starts_B = rank_within(targets_B)
        kept_B, classes_B = targets_B[order_B] >= 0, targets_B[order_B].clamp(min=0)
        rows_BD = torch.where(kept_B[:, None], embeddings_BD[order_B], 0.0).to(self.means_CD.dtype)
        sums_BD = torch.zeros_like(rows_BD).index_add(0, starts_B, rows_BD)  # the sum of a class is in its first row
        counts_B = torch.zeros_like(starts_B).index_add(0, starts_B, torch.ones_like(starts_B)).clamp(min=1)
        rate_B = torch.where(self.seen_C[classes_B], 1 - self.momentum, 1.0) * (kept_B & (rank_B == 0))
        self.means_CD.index_add_(
            0, classes_B, rate_B[:, None] * (sums_BD / counts_B[:, None] - self.means_CD[classes_B])
        )
        self.seen_C |= torch.zeros_like(self.seen_C, dtype=torch.long).index_add(0, classes_B, kept_B.long()) > 0

    def of(self, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centroid of the class of each row, shape (B, D), and whether it was set, shape (B,)."""
        classes_B = targets_B.clamp(min=0)
        return self.means_CD[classes_B], self.seen_C[classes_B] & (targets_B >= 0)


class Memory(nn.Module):
    """Ring buffer of the most recent embeddings of each class, first in, first out.

    A class has as many slots as it has images other than the current one, n - 1, and at most `size`. The
    memory is shared by all ranks.

    Args:
        counts_C: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D.
        size: Maximum number of slots of a class.

    Example:
        >>> memory = Memory(torch.tensor([3, 1]), embedding_dim=1, size=8)
        >>> memory.write(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0]))
        >>> keys, valid = memory.read(torch.tensor([0, 1]), torch.tensor([0, 0]))
        >>> keys[0].flatten(), valid  # the newest two; the single image of class 1 has no partner
        (tensor([3., 2.]), tensor([[ True,  True],
                [False, False]]))
    """

    embeddings_GSD: Tensor
    written_G: Tensor
    capacity_G: Tensor

    def __init__(self, counts_C: Tensor, embedding_dim: int, size: int) -> None:
        super().__init__()
        capacity_C = (counts_C.long() - 1).clamp(min=0, max=size)
        capacity_G = torch.cat([capacity_C, capacity_C.new_ones(1)])
        slots = int(capacity_G.max())
        self.register_buffer("capacity_G", capacity_G, persistent=False)
        self.register_buffer("embeddings_GSD", torch.zeros(len(capacity_G), slots, embedding_dim))
        self.register_buffer("written_G", torch.zeros_like(capacity_G))

    def groups(self, targets_B: Tensor) -> Tensor:
        """Return the group of each row: its class, or the last group for a negative label or a class without slots."""
        nowhere = len(self.capacity_G) - 1
        keeps_B = (targets_B >= 0) & (self.capacity_G[targets_B.clamp(min=0)] > 0)
        return torch.where(keeps_B, targets_B, nowhere)

    @torch.no_grad()
    def write(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Store rows in their order.

        Args:
            embeddings_BD: Embeddings.
            targets_B: Labels. Rows with a negative label are ignored.
        """
        embeddings_BD, targets_B = over_all_ranks(embeddings_BD.detach(), targets_B)
        groups_B = self.groups(targets_B)
        rows_G = torch.zeros_like(self.written_G).index_add(0, groups_B, torch.ones_like(groups_B))
        order_B, rank_B, starts_B = rank_within(groups_B)
        sorted_B = groups_B[order_B]
        capacity_B = self.capacity_G[sorted_B]
        slots_B = (self.written_G[sorted_B] + rank_B) % capacity_B
        # if a batch has more rows than slots, several rows share a slot: each writes the last of them, so that the
        # order of the writes does not matter
        last_B = rank_B + (rows_G[sorted_B] - 1 - rank_B) // capacity_B * capacity_B
        rows_BD = embeddings_BD[order_B[starts_B + last_B]]
        self.embeddings_GSD[sorted_B, slots_B] = rows_BD.to(self.embeddings_GSD.dtype)
        self.written_G += rows_G

    def read(self, targets_B: Tensor, partners_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored embeddings of the class of each row, the newest first.

        Args:
            targets_B: Labels.
            partners_B: Number of pairs that each row already has. As many of the oldest slots are omitted, since they
                may hold images that the row is already paired with, or the row itself.

        Returns:
            Embeddings (B, S, D), and a mask of those that count (B, S).
        """
        groups_B = self.groups(targets_B)
        age_S = torch.arange(self.embeddings_GSD.shape[1], device=targets_B.device)
        capacity_B1, written_B1 = self.capacity_G[groups_B, None], self.written_G[groups_B, None]
        slots_BS = (written_B1 - 1 - age_S) % capacity_B1
        room_B1 = torch.minimum(capacity_B1 - partners_B[:, None], written_B1)
        valid_BS = (age_S < room_B1) & (groups_B < len(self.capacity_G) - 1)[:, None]
        return self.embeddings_GSD[groups_B[:, None], slots_BS], valid_BS
