"""The newest embeddings of each class, first in, first out.

Shapes: B = batch, D = embedding dimension, S = slots of a class, G = groups: the classes, and last one for all rows
that are not kept. Rows of that group go through the same arithmetic and are never read.
"""

import torch
from torch import Tensor, nn

from longtail.embedding.pairs import over_all_ranks, rank_within


class Memory(nn.Module):
    """A ring of slots per class: as many as it has *other* images than one's own, at most `size`. All ranks share it.

    Args:
        counts_C: training images per class, shape (C,).
        embedding_dim: D.
        size: most slots of a class.

    Example:
        >>> memory = Memory(torch.tensor([3, 1]), embedding_dim=1, size=8)
        >>> memory.write(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0]))
        >>> keys, valid = memory.read(torch.tensor([0, 1]), torch.tensor([0, 0]))
        >>> keys[0].flatten(), valid  # the newest two; the only image of class 1 has no other
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
        """The group of each row: its class, or the last one where its label is negative or its class keeps nothing."""
        nowhere = len(self.capacity_G) - 1
        keeps_B = (targets_B >= 0) & (self.capacity_G[targets_B.clamp(min=0)] > 0)
        return torch.where(keeps_B, targets_B, nowhere)

    @torch.no_grad()
    def write(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Add rows, in their order; rows with a negative label are left out."""
        embeddings_BD, targets_B = over_all_ranks(embeddings_BD.detach(), targets_B)
        groups_B = self.groups(targets_B)
        rows_G = torch.zeros_like(self.written_G).index_add(0, groups_B, torch.ones_like(groups_B))
        order_B, rank_B, starts_B = rank_within(groups_B)
        sorted_B = groups_B[order_B]
        capacity_B = self.capacity_G[sorted_B]
        slots_B = (self.written_G[sorted_B] + rank_B) % capacity_B
        # where a batch has more rows than slots, several go to one slot: each then writes the last of them, so that
        # the order of the writes does not matter
        last_B = rank_B + (rows_G[sorted_B] - 1 - rank_B) // capacity_B * capacity_B
        rows_BD = embeddings_BD[order_B[starts_B + last_B]]
        self.embeddings_GSD[sorted_B, slots_B] = rows_BD.to(self.embeddings_GSD.dtype)
        self.written_G += rows_G

    def read(self, targets_B: Tensor, partners_B: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of each row's class, the newest first.

        Args:
            targets_B: labels.
            partners_B: how many pairs a row has already; so many of the oldest slots are left out, for in turn they
                stand for images that the row meets as partners, or for itself.

        Returns:
            Embeddings (B, S, D), and which of them count (B, S).
        """
        groups_B = self.groups(targets_B)
        age_S = torch.arange(self.embeddings_GSD.shape[1], device=targets_B.device)
        capacity_B1, written_B1 = self.capacity_G[groups_B, None], self.written_G[groups_B, None]
        slots_BS = (written_B1 - 1 - age_S) % capacity_B1
        room_B1 = torch.minimum(capacity_B1 - partners_B[:, None], written_B1)
        valid_BS = (age_S < room_B1) & (groups_B < len(self.capacity_G) - 1)[:, None]
        return self.embeddings_GSD[groups_B[:, None], slots_BS], valid_BS
