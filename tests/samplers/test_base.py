import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from longtail.errors import InputError
from longtail.samplers import ClassAwareSampler, InstanceSampler, TwoStreamSampler
from longtail.samplers.base import Sampler

TARGETS = torch.tensor([0] * 40 + [1] * 5)


class Counting(Sampler):
    """0, 1, 2, ...: an order that is easy to read; shifted by ten times the progress."""

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        return torch.arange(self.num_samples) + int(10 * progress)


def test_ranks_take_turns_and_the_last_turn_is_filled_from_the_start() -> None:
    shards = [list(Counting([0] * 7, rank=rank, num_ranks=3)) for rank in range(3)]
    assert shards == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]


def test_set_epoch_passes_the_progress_on_and_starts_at_the_beginning() -> None:
    sampler = Counting([0] * 4)
    next(iter(sampler))
    sampler.set_epoch(1, progress=0.5)
    assert list(sampler) == [5, 6, 7, 8]
    sampler.set_epoch(2)
    assert list(sampler) == [0, 1, 2, 3]


def test_a_broken_iteration_does_not_shorten_the_next_one() -> None:
    sampler = Counting([0] * 5)
    next(iter(sampler))
    for index in sampler:
        if index == 1:
            break
    assert list(sampler) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_peek_into_a_loader_leaves_the_next_epoch_whole(workers: int) -> None:
    loader = DataLoader(range(12), batch_size=2, sampler=Counting([0] * 12), num_workers=workers)  # type: ignore[arg-type]
    next(iter(loader))
    assert torch.cat(list(loader)).tolist() == list(range(12))


def test_only_a_loaded_state_continues_within_an_epoch_and_only_once() -> None:
    sampler, resumed = Counting([0] * 5), Counting([0] * 5)
    iterator = iter(sampler)
    next(iterator), next(iterator)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == [2, 3, 4]
    assert list(resumed) == [0, 1, 2, 3, 4]


def test_an_abandoned_iteration_does_not_move_the_position() -> None:
    sampler = Counting([0] * 5)
    abandoned, current = iter(sampler), iter(sampler)
    next(abandoned), next(current), next(abandoned), next(abandoned)
    assert sampler.state_dict()["position"] == 1


def test_epochs_count_up_until_one_is_set() -> None:
    sampler = InstanceSampler([0] * 50, seed=3)
    assert [list(sampler) for _ in range(2)] == [sampler.order(3, epoch).tolist() for epoch in (0, 1)]
    next(iter(sampler))  # epoch 2
    assert list(sampler) == sampler.order(3, 3).tolist()
    resumed = InstanceSampler([0] * 50, seed=3)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(sampler) == sampler.order(3, 4).tolist()
    sampler.set_epoch(2)
    assert [list(sampler) for _ in range(2)] == [sampler.order(3, 2).tolist()] * 2


def test_a_state_without_the_way_of_counting_keeps_its_epoch() -> None:
    sampler = InstanceSampler([0] * 50)
    sampler.load_state_dict({"epoch": 2, "progress": 0.5, "position": 48})  # as version 0.1 wrote it
    assert list(sampler) == sampler.order(0, 2)[48:].tolist()
    assert list(sampler) == sampler.order(0, 2).tolist()


def test_a_position_set_by_hand_makes_up_for_workers_that_drew_ahead() -> None:
    sampler = Counting([0] * 12)
    iterator = iter(DataLoader(range(12), batch_size=2, sampler=sampler, num_workers=1))  # type: ignore[arg-type]
    seen = torch.cat([next(iterator), next(iterator)])
    assert sampler.state_dict()["position"] > len(seen)
    resumed = Counting([0] * 12)
    resumed.load_state_dict({**sampler.state_dict(), "position": len(seen)})
    assert seen.tolist() + list(resumed) == list(range(12))


def test_a_set_of_another_seed_keeps_to_its_own_order() -> None:
    sampler = InstanceSampler([0] * 50, seed=3)
    sampler.set_epoch(2)
    assert list(sampler) == sampler.order(3, 2).tolist() != sampler.order(0, 2).tolist()


@pytest.mark.parametrize(("num_items", "num_samples"), [(5, 5), (5, 12), (5, 3), (1, 4)])
def test_passes_draw_every_image_equally_often_up_to_one(num_items: int, num_samples: int) -> None:
    drawn = InstanceSampler([0] * num_items, num_samples=num_samples).draw(torch.Generator().manual_seed(0), 0.0)
    assert len(drawn) == num_samples
    for start in range(0, num_samples, num_items):
        cycle = drawn[start : start + num_items].tolist()
        assert len(set(cycle)) == len(cycle)


def test_every_image_comes_once_an_epoch() -> None:
    for epoch in range(3):
        assert InstanceSampler(TARGETS).order(0, epoch).sort().values.tolist() == list(range(45))


def test_a_longer_epoch_starts_a_new_pass_when_all_images_were_seen() -> None:
    order = InstanceSampler(TARGETS, num_samples=100).order(0, 0)
    assert torch.bincount(order[:90]).tolist() == [2] * 45
    assert torch.bincount(order, minlength=45).max() == 3


def test_a_shorter_epoch_repeats_no_image() -> None:
    assert len(InstanceSampler(TARGETS, num_samples=30).order(0, 0).unique()) == 30


def test_repr_shows_sizes_and_options() -> None:
    assert repr(InstanceSampler([0, 0, 1])) == "InstanceSampler(num_images=3, num_samples=3)"
    assert repr(ClassAwareSampler([0, 0, 1], num_samples=8, seed=1)) == (
        "ClassAwareSampler(num_images=3, per_class=4, num_samples=8, seed=1)"
    )
    assert "second=ClassBalancedSampler(num_images=3, num_samples=4)" in repr(
        TwoStreamSampler([0, 0, 1], num_samples=8)
    )


def test_the_message_contains_what_was_given() -> None:
    with pytest.raises(InputError, match=r"got torch.int64 of shape \(2,\) with minimum -4"):
        Counting([3, -4])
    with pytest.raises(InputError, match=r"got torch.float32 of shape \(0,\)"):
        Counting([])
    with pytest.raises(InputError, match=r"`rank` must be an integer >= 0 and < 1 .*, got 1"):
        Counting([0], num_samples=5, rank=1)
