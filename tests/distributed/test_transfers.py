"""Two ranks with half a batch each have the statistics, and change the features, of one process with all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from longtail.transfer import ISDA, SemanticTransfer
from tests.distributed.pool import WORLD_SIZE, Pool
from tests.transfer.test_isda import batch as isda_batch
from tests.transfer.test_semantic_transfer import batch, built


def pairs_of_rows(rank: int, world_size: int, size: int) -> Tensor:
    """Return the rows of this rank: adjacent rows, one of each stream, stay together."""
    return torch.arange(size).view(-1, 2)[rank::world_size].flatten()


def three_steps(rank: int, world_size: int, options: dict[str, Any], size: int) -> tuple[Tensor, Any, dict[str, Any]]:
    """Maps and weights of the third step, on this rank's rows, and the state after it."""
    transfer: SemanticTransfer = built(**options)
    mine = pairs_of_rows(rank, world_size, size)
    for seed, progress in ((1, 0.0), (2, 0.5), (3, 0.5)):
        transfer.set_progress(progress)
        torch.manual_seed(seed)
        maps, weights = transfer(*(tensor[mine] for tensor in batch(seed, size)))
    return maps, weights, dict(transfer.state_dict())


@pytest.mark.parametrize("size", [20, 8, 4])  # per rank more, as many and fewer images than classes
@pytest.mark.parametrize("options", [{}, {"form": "projected", "memory_budget_gb": 0.5}], ids=["dense", "projected"])
def test_two_ranks_equal_one_process(pool: Pool, options: dict[str, Any], size: int) -> None:
    options = {"start": 0.5, "min_seen": 1, **options}
    maps, weights, state = three_steps(0, 1, options, size)
    assert not torch.equal(maps, batch(3, size)[0])
    for rank, (part, part_weights, rank_state) in enumerate(pool.run(three_steps, WORLD_SIZE, options, size)):
        mine = pairs_of_rows(rank, WORLD_SIZE, size)
        torch.testing.assert_close(part, maps[mine], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(part_weights, weights[mine], rtol=1e-3, atol=1e-3)
        for name, value in state.items():
            if "form" not in options or "by_channel" in name:  # the sign of coordinates is arbitrary
                torch.testing.assert_close(rank_state[name], value, rtol=1e-3, atol=1e-3)


def isda_steps(rank: int, world_size: int) -> tuple[Tensor, dict[str, Any]]:
    isda = ISDA([9] * 4, 3)
    for seed in (1, 2):
        embeddings, targets, head = isda_batch(seed)
        mine = slice(rank, None, world_size)
        raised = isda.adjust(torch.zeros(len(targets[mine]), 4), embeddings[mine], targets[mine], head)
    return raised.detach(), dict(isda.state_dict())


def test_isda_on_two_ranks_equals_one_process(pool: Pool) -> None:
    raised, state = isda_steps(0, 1)
    for rank, (part, rank_state) in enumerate(pool.run(isda_steps, WORLD_SIZE)):
        torch.testing.assert_close(part, raised[rank::WORLD_SIZE])
        torch.testing.assert_close(rank_state, state)
