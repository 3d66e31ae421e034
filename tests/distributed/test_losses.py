"""Two ranks with half a batch each give the value and the gradient of one process with all of it.

The ranks' means are averaged, as data parallelism averages gradients. A loss with statistics of the batches (the counts
of `SeesawLoss`) must gather them itself, which its second step and its state show.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtail import losses
from tests.conformance import batch, one_hot, value_and_gradient
from tests.distributed.pool import WORLD_SIZE, Pool
from tests.losses.test_conformance import loss_case


def two_steps(rank: int, world_size: int, name: str, soft: bool) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Value and gradient in the second step, on this rank's part of each batch, and the state after it."""
    loss: nn.Module = loss_case(name).build()
    for seed in (1, 2):
        logits_BC, targets_B = batch(seed)
        mine = slice(rank, None, world_size)
        targets = one_hot(targets_B) if soft else targets_B
        value, gradient_BC = value_and_gradient(loss, logits_BC[mine], targets[mine])
    return value, gradient_BC, dict(loss.state_dict())


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("name", losses.__all__)
def test_two_ranks_equal_one_process(pool: Pool, name: str, soft: bool) -> None:
    value, gradient_BC, state = two_steps(0, 1, name, soft)
    answers = pool.run(two_steps, WORLD_SIZE, name, soft)
    torch.testing.assert_close(sum(answer[0] for answer in answers) / WORLD_SIZE, value)
    for rank, (_, part_BC, rank_state) in enumerate(answers):
        torch.testing.assert_close(part_BC / WORLD_SIZE, gradient_BC[rank::WORLD_SIZE])
        torch.testing.assert_close(rank_state, state)


def add_ranks(rank: int, offset: int) -> int:
    total = torch.tensor(rank + offset)
    torch.distributed.all_reduce(total)
    return int(total)


def fail_on_rank_one(rank: int) -> None:
    if rank == 1:
        raise ValueError("as it should")


def test_pool_joins_the_ranks_and_reports_their_errors(pool: Pool) -> None:
    assert pool.run(add_ranks, 10) == [21, 21]
    with pytest.raises(AssertionError, match=r"(?s)rank 1: Traceback.*ValueError: as it should"):
        pool.run(fail_on_rank_one)
    assert pool.run(add_ranks, 0) == [1, 1]
