import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.samplers import ClassAwareSampler

TARGETS = torch.tensor([0] * 50 + [1] * 10 + [2] * 3 + [3])[torch.randperm(64, generator=torch.Generator())]


def turns(order: Tensor, per_class: int) -> list[list[int]]:
    """Return the labels of each complete turn."""
    return [turn.tolist() for turn in TARGETS[order].split(per_class) if len(turn) == per_class]


@pytest.mark.parametrize("per_class", [1, 3, 4])
def test_a_class_has_its_turn_for_several_draws_and_every_class_has_one_before_the_next_round(per_class: int) -> None:
    order = ClassAwareSampler(TARGETS, per_class=per_class, num_samples=16 * per_class).order(0, 0)
    labels = turns(order, per_class)
    assert all(len(set(turn)) == 1 for turn in labels)
    firsts = [turn[0] for turn in labels]
    assert all(sorted(firsts[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 16, 4))


def test_rounds_are_shuffled_anew() -> None:
    firsts = [turn[0] for turn in turns(ClassAwareSampler(TARGETS, num_samples=16 * 20).order(0, 0), 4)]
    rounds = {tuple(firsts[start : start + 4]) for start in range(0, len(firsts), 4)}
    assert len(rounds) > 10  # of 20, of 24 possible ones


@pytest.mark.parametrize("per_class", [1, 4, 7])
def test_all_images_of_a_class_come_before_one_comes_again(per_class: int) -> None:
    order = ClassAwareSampler(TARGETS, per_class=per_class, num_samples=1000).order(3, 1)
    for label, count in enumerate((50, 10, 3, 1)):
        drawn = order[TARGETS[order] == label]
        assert len(drawn) > 2 * count
        for cycle in drawn.split(count):
            assert len(cycle.unique()) == len(cycle)


def test_cycles_of_a_class_are_shuffled_anew() -> None:
    order = ClassAwareSampler(TARGETS, num_samples=4000).order(0, 0)
    cycles = {tuple(cycle.tolist()) for cycle in order[TARGETS[order] == 2].split(3)}
    assert len(cycles) >= 6  # all orders of three images


def test_class_counts_differ_by_a_turn_at_most() -> None:
    for num_samples in (15, 16, 17, 100, 999):
        counts = torch.bincount(TARGETS[ClassAwareSampler(TARGETS, num_samples=num_samples).order(0, 0)], minlength=4)
        assert int(counts.max() - counts.min()) <= 4


def test_refuses_no_draws_per_class() -> None:
    for per_class in (0, -1, 2.5):
        with pytest.raises(InputError, match="`per_class` must be an integer >= 1"):
            ClassAwareSampler(TARGETS, per_class=per_class)  # type: ignore[arg-type]
