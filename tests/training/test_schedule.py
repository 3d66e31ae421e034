"""The learning rate schedule against the authors' code and hand-computed values."""

import math

import pytest

from longtail.config.schema import ScheduleConfig
from longtail.training.schedule import learning_rate_factor

LDAM = ScheduleConfig(kind="multistep", warmup=0.025, milestones=(0.8, 0.9), gamma=0.01, per="epoch")


def ldam_drw_code(epoch: int) -> float:
    """Return the learning rate of `adjust_learning_rate` in LDAM-DRW's cifar_train.py, for lr = 1."""
    epoch = epoch + 1
    if epoch <= 5:
        return epoch / 5
    if epoch > 180:
        return 0.0001
    if epoch > 160:
        return 0.01
    return 1.0


@pytest.mark.parametrize("step", [0, 84])
def test_the_ldam_recipe_has_the_rate_of_the_authors_code_in_every_epoch(step):
    ours = [learning_rate_factor(LDAM, epoch, step, 200, 85) for epoch in range(200)]
    assert ours == pytest.approx([ldam_drw_code(epoch) for epoch in range(200)], rel=1e-9)


def test_a_shorter_run_keeps_the_shape():
    factors = [learning_rate_factor(LDAM, epoch, 0, 20, 85) for epoch in range(20)]
    assert factors[:2] == [1.0, 1.0]  # half an epoch of warm-up ends within the first
    assert factors[15:] == pytest.approx([1.0, 0.01, 0.01, 0.0001, 0.0001])


def test_cosine_falls_from_the_end_of_the_warm_up_to_almost_zero():
    schedule = ScheduleConfig(kind="cosine", warmup=0.1, warmup_start=0.5)
    at = [learning_rate_factor(schedule, epoch, step, 10, 10) for epoch in range(10) for step in range(10)]
    assert at[0] == pytest.approx(0.55)
    assert at[9] == pytest.approx(1.0)
    assert at[10] == pytest.approx(1.0)
    assert at[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert at == sorted(at[:10]) + sorted(at[10:], reverse=True)
    assert 0 < at[-1] < 0.001


def test_per_epoch_holds_the_rate_within_an_epoch_and_per_step_moves_it():
    by_epoch, by_step = ScheduleConfig(per="epoch"), ScheduleConfig(per="step")
    assert learning_rate_factor(by_epoch, 3, 0, 10, 7) == learning_rate_factor(by_epoch, 3, 6, 10, 7)
    assert learning_rate_factor(by_step, 3, 0, 10, 7) > learning_rate_factor(by_step, 3, 6, 10, 7)


def test_constant_is_constant():
    assert learning_rate_factor(ScheduleConfig(kind="constant"), 9, 3, 10, 7) == 1.0
