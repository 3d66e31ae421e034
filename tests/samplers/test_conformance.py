"""Checks of every sampler in `longtail.samplers.__all__`.

The images of each data set are shuffled, so that an index does not reveal its class.
"""

import copy
import json
import pickle

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.utils.data import DataLoader

import longtail.samplers
from longtail.errors import InputError
from longtail.samplers.base import Sampler

SAMPLERS = [getattr(longtail.samplers, name) for name in longtail.samplers.__all__]


def labels(*counts: int) -> Tensor:
    """Return labels with the given number of images of class 0, 1, 2, ..., in a fixed random order."""
    targets = torch.repeat_interleave(torch.tensor(counts))
    return targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(7))]


LONG_TAIL = labels(60, 20, 7, 2, 1)
ODD_DATA = {
    "single-image classes": labels(1, 1, 1, 1),
    "one class": labels(9),
    "one image": labels(1),
    "classes without images": labels(0, 30, 0, 0, 3, 0) + 2,
    "large labels": labels(30, 3) * 10**9,
}


@pytest.fixture(params=SAMPLERS, ids=longtail.samplers.__all__)
def sampler_class(request: pytest.FixtureRequest) -> type[Sampler]:
    return request.param


def class_shares(sampler_class: type[Sampler], targets: Tensor, progress: float = 0.0) -> Tensor:
    order = sampler_class(targets, num_samples=40_000).order(seed=0, epoch=0, progress=progress)
    return torch.bincount(targets[order], minlength=int(targets.max()) + 1) / 40_000


def test_order_is_a_function_of_seed_epoch_and_progress(sampler_class: type[Sampler]) -> None:
    one, other = sampler_class(LONG_TAIL), sampler_class(LONG_TAIL, seed=5)
    for progress in (0.0, 0.5):
        assert torch.equal(one.order(3, 2, progress), other.order(3, 2, progress))
        assert torch.equal(one.order(3, 2, progress), one.order(3, 2, progress))


def test_another_seed_or_epoch_gives_another_order(sampler_class: type[Sampler]) -> None:
    sampler = sampler_class(LONG_TAIL)
    first = sampler.order(0, 0)
    assert not torch.equal(first, sampler.order(1, 0))
    assert not torch.equal(first, sampler.order(0, 1))


def test_neither_reads_nor_moves_the_global_generator(sampler_class: type[Sampler]) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = list(sampler_class(LONG_TAIL))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert list(sampler_class(LONG_TAIL)) == first


@pytest.mark.parametrize("num_samples", [1, 2, 89, 90, 91, 1000])
def test_an_epoch_has_the_asked_length(sampler_class: type[Sampler], num_samples: int) -> None:
    sampler = sampler_class(LONG_TAIL, num_samples=num_samples)
    for epoch in range(3):
        order = sampler.order(0, epoch)
        assert order.shape == (num_samples,)
        assert order.dtype == torch.int64
        assert 0 <= int(order.min()) <= int(order.max()) < len(LONG_TAIL)
    assert len(list(sampler)) == len(sampler) == num_samples


def test_by_default_an_epoch_is_no_shorter_than_the_data(sampler_class: type[Sampler]) -> None:
    sampler = sampler_class(LONG_TAIL)
    assert len(list(sampler)) == len(sampler) == sampler.num_samples >= len(LONG_TAIL)


@pytest.mark.parametrize("name", ODD_DATA)
def test_odd_data_are_drawn_from(sampler_class: type[Sampler], name: str) -> None:
    targets = ODD_DATA[name]
    order = sampler_class(targets, num_samples=500).order(0, 0, 0.5)
    assert set(targets[order].tolist()) == set(targets.tolist())


def test_every_image_is_drawn_sooner_or_later(sampler_class: type[Sampler]) -> None:
    order = sampler_class(LONG_TAIL, num_samples=40_000).order(0, 0, 0.5)
    assert len(order.unique()) == len(LONG_TAIL)


def test_images_of_a_class_are_equally_likely(sampler_class: type[Sampler]) -> None:
    times = torch.bincount(sampler_class(LONG_TAIL, num_samples=40_000).order(0, 0, 0.5), minlength=len(LONG_TAIL))
    for label in range(4):
        assert chisquare(times[LONG_TAIL.eq(label)]).pvalue > 1e-3


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_renaming_the_classes_renames_what_is_drawn(sampler_class: type[Sampler], progress: float) -> None:
    rename = torch.tensor([3, 0, 4, 1, 2])
    renamed = class_shares(sampler_class, rename[LONG_TAIL], progress)
    torch.testing.assert_close(renamed[rename], class_shares(sampler_class, LONG_TAIL, progress), atol=0.015, rtol=0)


def test_the_order_of_the_images_does_not_matter(sampler_class: type[Sampler]) -> None:
    by_class = class_shares(sampler_class, LONG_TAIL.sort().values)
    torch.testing.assert_close(by_class, class_shares(sampler_class, LONG_TAIL), atol=0.015, rtol=0)


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_ranks_share_the_order_of_one_process(sampler_class: type[Sampler], num_ranks: int) -> None:
    whole = sampler_class(LONG_TAIL, seed=4)
    parts = [sampler_class(LONG_TAIL, seed=4, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    for sampler in (whole, *parts):
        sampler.set_epoch(3, progress=0.5)
    expected, shards = list(whole), [list(part) for part in parts]
    streams = sampler_class.streams  # images that stay together
    groups = -(-len(expected) // (num_ranks * streams))
    assert {len(shard) for shard in shards} == {len(part) for part in parts} == {groups * streams}
    interleaved = torch.tensor(shards).view(num_ranks, groups, streams).transpose(0, 1).flatten().tolist()
    assert interleaved[: len(expected)] == expected
    assert interleaved[len(expected) :] == expected[: len(interleaved) - len(expected)]


def test_more_ranks_than_images(sampler_class: type[Sampler]) -> None:
    shards = [list(sampler_class(labels(1, 1), num_samples=2, rank=rank, num_ranks=5)) for rank in range(5)]
    assert [len(shard) for shard in shards] == [sampler_class.streams] * 5


@pytest.mark.parametrize("seen", [0, 1, 37])
def test_resumes_in_mid_epoch(sampler_class: type[Sampler], seen: int) -> None:
    options = {"seed": 1, "rank": 1, "num_ranks": 2}
    unbroken, broken, resumed = (sampler_class(LONG_TAIL, **options) for _ in range(3))
    for sampler in (unbroken, broken):
        sampler.set_epoch(6, progress=0.6)
    expected = list(unbroken)
    start = [index for _, index in zip(range(seen), broken, strict=False)]
    resumed.load_state_dict(json.loads(json.dumps(broken.state_dict())))
    assert start + list(resumed) == expected
    assert list(resumed) == expected  # the whole epoch again, not its end


def test_state_says_how_far_the_epoch_has_come(sampler_class: type[Sampler]) -> None:
    sampler = sampler_class(LONG_TAIL)
    sampler.set_epoch(2, progress=0.25)
    iterator = iter(sampler)
    next(iterator), next(iterator)
    assert sampler.state_dict().items() >= {"epoch": 2, "progress": 0.25, "position": 2}.items()
    list(iterator)
    assert sampler.state_dict()["position"] == 0


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
def test_copies_and_pickles(sampler_class: type[Sampler], clone) -> None:  # type: ignore[no-untyped-def]
    sampler = sampler_class(LONG_TAIL, seed=9)
    sampler.set_epoch(1, progress=0.5)
    twin = clone(sampler)
    assert twin.state_dict() == sampler.state_dict()
    assert list(twin) == list(sampler)


def test_serves_a_data_loader(sampler_class: type[Sampler]) -> None:
    sampler = sampler_class(LONG_TAIL, num_samples=50)
    loader = DataLoader(LONG_TAIL, batch_size=8, sampler=sampler)  # type: ignore[arg-type]
    sampler.set_epoch(5)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [8] * 6 + [2]
    assert torch.equal(torch.cat(batches), LONG_TAIL[sampler.order(0, 5)])


def test_a_data_loader_resumes_after_the_batches_it_gave(sampler_class: type[Sampler]) -> None:
    sampler, resumed = sampler_class(LONG_TAIL), sampler_class(LONG_TAIL)
    sampler.set_epoch(1)
    loader = DataLoader(range(len(LONG_TAIL)), batch_size=8, sampler=sampler)  # type: ignore[arg-type]
    iterator = iter(loader)
    start = [next(iterator) for _ in range(3)]
    resumed.load_state_dict(sampler.state_dict())
    rest = list(DataLoader(range(len(LONG_TAIL)), batch_size=8, sampler=resumed))  # type: ignore[arg-type]
    assert torch.equal(torch.cat(start + rest), sampler.order(0, 1))


@pytest.mark.parametrize(
    "targets", [LONG_TAIL.tolist(), tuple(LONG_TAIL.tolist()), LONG_TAIL.numpy(), LONG_TAIL.byte()]
)
def test_labels_may_come_in_any_container(sampler_class: type[Sampler], targets) -> None:  # type: ignore[no-untyped-def]
    assert torch.equal(sampler_class(targets).order(0, 0), sampler_class(LONG_TAIL).order(0, 0))


@pytest.mark.parametrize(
    "targets",
    [[], torch.tensor([0, -1]), torch.tensor([0.0, 1.5]), torch.zeros(2, 3, dtype=torch.long), ["cat", "dog"], 3],
    ids=["none", "negative", "fractions", "table", "names", "number"],
)
def test_refuses_what_are_no_labels(sampler_class: type[Sampler], targets) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=r"must be the .*labels of the training images"):
        sampler_class(targets)


@pytest.mark.parametrize(
    "options",
    [{"num_samples": 0}, {"num_samples": 2.5}, {"rank": 2, "num_ranks": 2}, {"rank": -1}, {"num_ranks": 0}],
    ids=str,
)
def test_refuses_impossible_shares(sampler_class: type[Sampler], options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=f"`{next(iter(options))}` must be an integer >= "):
        sampler_class(LONG_TAIL, **options)
