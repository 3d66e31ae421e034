import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from longtail.errors import InputError
from longtail.samplers import InstanceSampler
from longtail.samplers.base import Sampler, cycle_permutations


class Counting(Sampler):
    """0, 1, 2, ...: an order one can read; shifted by ten times the progress."""

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


def test_a_broken_iteration_goes_on_where_it_stopped() -> None:
    sampler = Counting([0] * 5)
    for index in sampler:
        if index == 1:
            break
    assert list(sampler) == [2, 3, 4]


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
def test_cycles_show_every_item_equally_often_give_or_take_one(num_items: int, num_samples: int) -> None:
    drawn = cycle_permutations(num_items, num_samples, torch.Generator().manual_seed(0))
    assert len(drawn) == num_samples
    for start in range(0, num_samples, num_items):
        cycle = drawn[start : start + num_items].tolist()
        assert len(set(cycle)) == len(cycle)


def test_the_refusal_says_what_was_given() -> None:
    with pytest.raises(InputError, match=r"not torch.int64 of shape \(2,\) with -4 among them"):
        Counting([3, -4])
    with pytest.raises(InputError, match=r"not torch.float32 of shape \(0,\)"):
        Counting([])
    with pytest.raises(InputError, match="not 5, 1 and 1"):
        Counting([0], num_samples=5, rank=1)
