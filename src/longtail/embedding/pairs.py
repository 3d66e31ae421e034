"""Helpers of embedding losses: distances of pairs, class masks, positions within a class, and the rows of all ranks.

Shapes: B = batch, K = keys, D = embedding dimension, W = ranks.
"""

import torch
from torch import Tensor, distributed

NORM_FLOOR = 1e-3
"""Lower bound of the norm in `unit`. An embedding after a ReLU can be all zero, where a unit vector has no gradient."""


def squared_distances(queries_BD: Tensor, keys_KD: Tensor) -> Tensor:
    """Compute ||q - k||^2 of all pairs, shape (B, K), by one matrix product.

    Example:
        >>> squared_distances(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[25.,  0.]])
    """
    center_D = keys_KD.detach().mean(dim=0)  # a common shift keeps the distances and reduces cancellation
    queries_BD, keys_KD = queries_BD - center_D, keys_KD - center_D
    squares_BK = queries_BD.square().sum(dim=1, keepdim=True) + keys_KD.square().sum(dim=1)
    return (squares_BK - 2 * queries_BD @ keys_KD.T).clamp(min=0)


def unit(embeddings_BD: Tensor) -> Tensor:
    """Divide embeddings by their length, or by `NORM_FLOOR` if that is larger.

    Example:
        >>> unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return torch.nn.functional.normalize(embeddings_BD, dim=1, eps=NORM_FLOOR)


def same_class(targets_B: Tensor) -> Tensor:
    """Return a mask of the pairs of different rows of one class, shape (B, B); a negative label has no partner.

    Example:
        >>> same_class(torch.tensor([7, 7, -1, -1])).long()
        tensor([[0, 1, 0, 0],
                [1, 0, 0, 0],
                [0, 0, 0, 0],
                [0, 0, 0, 0]])
    """
    itself_BB = torch.eye(len(targets_B), dtype=torch.bool, device=targets_B.device)
    return (targets_B[:, None] == targets_B) & (targets_B >= 0) & ~itself_BB


def other_class(targets_B: Tensor) -> Tensor:
    """Return a mask of the pairs of rows of different classes, shape (B, B); a negative label has no partner.

    Example:
        >>> other_class(torch.tensor([7, 5, -1])).long()
        tensor([[0, 1, 0],
                [1, 0, 0],
                [0, 0, 0]])
    """
    kept_B = targets_B >= 0
    return (targets_B[:, None] != targets_B) & kept_B[:, None] & kept_B


def rank_within(groups_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the position of each row among the rows of its group, without a loop.

    Returns:
        Three tensors of shape (B,): the rows sorted by group and, in that order, the position within the group (from 0)
        and the position at which the group begins.

    Example:
        >>> rank_within(torch.tensor([7, 5, 7, 7]))
        (tensor([1, 0, 2, 3]), tensor([0, 0, 1, 2]), tensor([0, 1, 1, 1]))
    """
    sorted_B, order_B = groups_B.sort(stable=True)
    starts_B = torch.searchsorted(sorted_B, sorted_B)
    return order_B, torch.arange(len(groups_B), device=groups_B.device) - starts_B, starts_B


def over_all_ranks(embeddings_BD: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
    """Gather the rows of all ranks: shapes (W B, D) and (W B,).

    All ranks must have the same number of rows. Row i of rank r becomes row i W + r, which restores the common order if
    each rank takes every W-th image of it.

    Example:
        >>> over_all_ranks(torch.zeros(2, 3), torch.tensor([4, 5]))[1]  # one process
        tensor([4, 5])
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return embeddings_BD, targets_B
    return _gathered(embeddings_BD), _gathered(targets_B)


def _gathered(rows: Tensor) -> Tensor:
    size = distributed.get_world_size()
    gathered = rows.new_empty((size * len(rows), *rows.shape[1:]))
    distributed.all_gather_into_tensor(gathered, rows.contiguous())
    return gathered.view(size, *rows.shape).transpose(0, 1).flatten(0, 1)
