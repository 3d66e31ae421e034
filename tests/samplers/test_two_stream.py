"""Two streams: positions and frequencies of the images, and pairs that stay on one rank."""

import pytest
import torch

from longtail.errors import InputError
from longtail.samplers import ClassBalancedSampler, InstanceSampler, TwoStreamSampler

TARGETS = torch.tensor([0] * 90 + [1] * 10)


def test_even_places_are_of_the_first_sampler_and_odd_ones_of_the_second():
    sampler = TwoStreamSampler(TARGETS, num_samples=4000)
    assert isinstance(sampler.first, InstanceSampler)
    assert isinstance(sampler.second, ClassBalancedSampler)
    order = sampler.order(3, 1)
    assert torch.bincount(order[0::2], minlength=100).tolist() == [20] * 100  # twenty passes over the images
    assert abs(float(TARGETS[order[1::2]].float().mean()) - 0.5) < 0.05  # 2000 fair coins: 4.5 standard deviations


def test_the_streams_are_drawn_apart():
    order = TwoStreamSampler(TARGETS, num_samples=200, second="InstanceSampler").order(0, 0)
    assert not torch.equal(order[0::2], order[1::2])


def test_the_samplers_and_their_options_are_the_users_choice():
    second = {"name": "ClassAwareSampler", "per_class": 2}
    order = TwoStreamSampler(TARGETS, num_samples=16, second=second).order(0, 0)
    pairs = TARGETS[order[1::2]].view(4, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])


def test_an_odd_number_of_images_leaves_the_last_pair_without_its_second():
    assert len(TwoStreamSampler(TARGETS, num_samples=7).order(0, 0)) == 7


def test_a_rank_takes_pairs_so_that_it_sees_both_streams():
    whole = TwoStreamSampler(TARGETS, num_samples=24).order(0, 0).view(12, 2)
    for rank in (0, 1):
        sampler = TwoStreamSampler(TARGETS, num_samples=24, rank=rank, num_ranks=2)
        assert torch.equal(torch.tensor(list(sampler)), whole[rank::2].flatten())
        assert len(sampler) == 12


@pytest.mark.parametrize("num_samples", [1, 5, 7])
def test_ranks_filled_up_from_an_odd_number_of_images_keep_the_streams_in_their_places(num_samples):
    whole = TwoStreamSampler(TARGETS, num_samples=num_samples).order(0, 0).tolist()
    for rank in range(4):
        mine = list(TwoStreamSampler(TARGETS, num_samples=num_samples, rank=rank, num_ranks=4))
        assert set(mine[0::2]) <= set(whole[0::2])
        assert num_samples == 1 or set(mine[1::2]) <= set(whole[1::2])


@pytest.mark.parametrize("option", ["first", "second"])
def test_a_stream_has_no_length_of_its_own(option):
    with pytest.raises(InputError, match="`num_samples` must not be set for the stream InstanceSampler"):
        TwoStreamSampler(TARGETS, **{option: {"name": "InstanceSampler", "num_samples": 7}})


@pytest.mark.parametrize("option", ["first", "second"])
def test_an_unknown_sampler_is_refused_by_name(option):
    with pytest.raises(InputError, match="sampler 'Nonsense'"):
        TwoStreamSampler(TARGETS, **{option: "Nonsense"})
