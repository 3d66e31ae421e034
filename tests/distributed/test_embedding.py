"""The state of embedding losses is the same on all ranks and in one process with the whole batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from longtail import embedding
from tests.distributed.pool import WORLD_SIZE, Pool
from tests.embedding.examples import COUNTS, DIM, batch, value_and_gradient

REMEMBERING: list[tuple[str, dict[str, Any]]] = [
    ("CenterLoss", {}),
    ("DROLoss", {}),
    ("PullLoss", {"pairs": "centroid"}),
    ("PullLoss", {"pairs": "memory", "memory_size": 5}),
]
# losses that do not compare the examples of a batch, of which a rank has a part
ONE_BY_ONE = [REMEMBERING[0], REMEMBERING[2]]


def three_steps(
    rank: int, world_size: int, name: str, options: dict[str, Any]
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Value and gradient in the third step, on this rank's part of each batch, and the state after it."""
    loss = getattr(embedding, name)(COUNTS, DIM, **options)
    for seed in (1, 2, 3):
        embeddings_BD, targets_B = batch(seed)
        mine = slice(rank, None, world_size)
        value, gradient_BD = value_and_gradient(loss, embeddings_BD[mine], targets_B[mine])
    return value, gradient_BD, dict(loss.state_dict())


@pytest.mark.parametrize(("name", "options"), REMEMBERING)
def test_two_ranks_remember_what_one_process_does(pool: Pool, name: str, options: dict[str, Any]) -> None:
    _, _, state = three_steps(0, 1, name, options)
    for _, _, rank_state in pool.run(three_steps, WORLD_SIZE, name, options):
        torch.testing.assert_close(rank_state, state)


@pytest.mark.parametrize(("name", "options"), ONE_BY_ONE)
def test_two_ranks_give_the_value_and_gradient_of_one_process(pool: Pool, name: str, options: dict[str, Any]) -> None:
    value, gradient_BD, _ = three_steps(0, 1, name, options)
    answers = pool.run(three_steps, WORLD_SIZE, name, options)
    torch.testing.assert_close(sum(answer[0] for answer in answers) / WORLD_SIZE, value)
    for rank, (_, part_BD, _) in enumerate(answers):
        torch.testing.assert_close(part_BD / WORLD_SIZE, gradient_BD[rank::WORLD_SIZE])
