"""Two ranks with half of each batch learn the same head and rates as one process with all of it."""

import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.losses import BalancedSoftmax
from longtail.models.cifar import small_net
from longtail.models.classifier import Classifier
from longtail.models.heads import CosineHead, LinearHead
from longtail.samplers import MetaSampler
from longtail.training.balms.bilevel import train_bilevel
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context
from longtail.training.distributed import average_
from longtail.training.log import RunLog
from longtail.training.step import Step
from tests.distributed.pool import WORLD_SIZE, Pool
from tests.training.test_balms_bilevel import COUNTS, PLAIN, TARGETS, feature_part


def learn(rank: int, head_name: str) -> tuple[Tensor, Tensor, float]:
    """Weights of the head, logits of the rates, and the last loss in the log."""
    folder = Path(tempfile.mkdtemp())
    torch.manual_seed(0)
    head = {"linear": LinearHead, "cosine": CosineHead}[head_name](6, 3)
    model = Classifier(small_net(width=3), head).double()
    model.backbone.requires_grad_(False)
    context = Context(1, 0, "x", torch.device("cpu"), CheckpointStore(folder), RunLog(folder / "log.jsonl"))
    sampler = MetaSampler(TARGETS, lr=0.05)
    train_bilevel(
        Step(model, BalancedSoftmax(COUNTS), "skip"), feature_part(), sampler, PLAIN, context, meta_batch_size=12
    )
    weights = torch.cat([value.detach().flatten() for value in model.head.parameters()])
    return weights, sampler.logits_K.detach(), context.log.rows[-1]["loss"]


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_two_ranks_equal_one_process(pool: Pool, head: str) -> None:
    weights, logits_K, loss = learn(0, head)
    for rank_weights, rank_logits_K, rank_loss in pool.run(learn, head):
        torch.testing.assert_close(rank_weights, weights, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(rank_logits_K, logits_K, rtol=1e-4, atol=1e-6)
        assert abs(rank_loss - loss) < 1e-6


def learn_without_averages(rank: int) -> Tensor:
    with mock.patch("longtail.training.balms.bilevel.average_"):
        return learn(rank, "linear")[1]


def test_ranks_that_do_not_talk_learn_something_else(pool: Pool) -> None:
    """Verify that the test above can fail."""
    one, other = pool.run(learn_without_averages)
    assert (one - other).abs().max() > 1e-3


def average_of(rank: int) -> list[Tensor]:
    tensors = [torch.full((2, 3), float(rank)), torch.tensor(10.0 * rank)]
    average_(tensors)
    return tensors


def test_average(pool: Pool) -> None:
    for matrix, scalar in pool.run(average_of):
        assert torch.equal(matrix, torch.full((2, 3), (WORLD_SIZE - 1) / 2))
        assert scalar == 5.0
    assert average_of(3)[1] == 30.0  # one process keeps its own


def indivisible(rank: int) -> str:
    folder = Path(tempfile.mkdtemp())
    context = Context(1, 0, "x", torch.device("cpu"), CheckpointStore(folder), RunLog(folder / "log.jsonl"))
    step = Step(Classifier(small_net(width=3), LinearHead(6, 3)).double(), BalancedSoftmax(COUNTS), "skip")
    try:
        train_bilevel(step, feature_part(), MetaSampler(TARGETS), replace(PLAIN, batch_size=15), context)
    except InputError as error:
        return str(error)
    return ""


def test_a_batch_that_can_not_be_divided_is_refused(pool: Pool) -> None:
    assert all("a multiple of the 2 ranks, got batch_size=15" in words for words in pool.run(indivisible))
