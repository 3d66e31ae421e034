"""Collectives over the ranks of a training; no-ops in a single process."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks.

    Example:
        >>> rank_and_size()
        (0, 1)
    """
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their means over the ranks, in place, in one message."""
    _, size = rank_and_size()
    if size == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat / size, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
