import math
import warnings

import pytest
import torch

from longtail.errors import InputError
from longtail.samplers import RepeatFactorSampler
from longtail.samplers.repeat_factor import repeat_factors

TARGETS = torch.tensor([0] * 80 + [1] * 16 + [2] * 4)
SETS = [[0], [0, 1], {0, 2}, (), [0, 0], [0, 1, 2], [0], [0]]


def factors_of_the_paper(sets: list[set[int]], threshold: float) -> list[float]:
    """LVIS, Appendix B.2, image by image."""
    factors = []
    for labels in sets:
        factor = 1.0
        for label in labels:
            share = sum(label in other for other in sets) / len(sets)
            factor = max(factor, math.sqrt(threshold / share))
        factors.append(factor)
    return factors


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.3, 1.0])
@pytest.mark.filterwarnings("ignore:no image will be repeated")
def test_factors_are_those_of_the_paper(threshold: float) -> None:
    sampler = RepeatFactorSampler(TARGETS, threshold=threshold)
    expected = factors_of_the_paper([{int(label)} for label in TARGETS], threshold)
    torch.testing.assert_close(sampler.factors_N, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("threshold", [0.3, 0.9])
def test_an_image_of_several_classes_is_repeated_for_its_rarest(threshold: float) -> None:
    sampler = RepeatFactorSampler(SETS, threshold=threshold)
    expected = factors_of_the_paper([set(labels) for labels in SETS], threshold)
    torch.testing.assert_close(sampler.factors_N, torch.tensor(expected, dtype=torch.float64))
    assert sampler.factors_N[3] == 1  # the image without a label


def test_single_labels_and_sets_of_one_agree() -> None:
    single, sets = RepeatFactorSampler(TARGETS), RepeatFactorSampler([[int(label)] for label in TARGETS])
    assert torch.equal(single.order(0, 0), sets.order(0, 0))


def test_by_default_what_is_rarer_than_the_mean_is_repeated() -> None:
    # shares 0.8, 0.16 and 0.04 against 1/3
    factors = RepeatFactorSampler(TARGETS).factors_N
    expected = torch.tensor([1.0, math.sqrt(1 / 3 / 0.16), math.sqrt(1 / 3 / 0.04)], dtype=torch.float64)
    torch.testing.assert_close(factors, expected[TARGETS])


def test_an_epoch_is_as_long_as_the_factors_sum_to_and_always_the_same() -> None:
    sampler = RepeatFactorSampler(TARGETS)
    total = 80 + 16 * math.sqrt(1 / 3 / 0.16) + 4 * math.sqrt(1 / 3 / 0.04)
    assert sampler.num_samples == math.ceil(total) == 115
    assert {len(sampler.order(0, epoch)) for epoch in range(50)} == {115}


def test_fractions_are_rounded_at_random_to_the_right_mean() -> None:
    sampler = RepeatFactorSampler(TARGETS)
    times = torch.stack([torch.bincount(sampler.order(0, epoch), minlength=100) for epoch in range(2000)])
    expected = sampler.factors_N * 115 / sampler.factors_N.sum()
    assert bool((times >= expected.floor()).all() and (times <= expected.ceil()).all())
    torch.testing.assert_close(times.double().mean(dim=0), expected, atol=0.05, rtol=0)


def test_fractions_have_the_right_mean_among_few_images() -> None:
    """Factors 1, 1 and sqrt(1.5), stretched to a sum of 4: the offset of the marks must be random, not central."""
    sampler = RepeatFactorSampler([0, 0, 1])
    times = torch.stack([torch.bincount(sampler.order(0, epoch), minlength=3) for epoch in range(2000)]).double()
    torch.testing.assert_close(times.mean(dim=0), 4 / (2 + math.sqrt(1.5)) * sampler.factors_N, atol=0.05, rtol=0)


def test_neighbours_are_not_rounded_in_step() -> None:
    """Twenty images of which half are drawn twice: without a shuffled line it would be every second one."""
    sampler = RepeatFactorSampler([0] * 20, num_samples=30)
    twice = torch.stack([torch.bincount(sampler.order(0, epoch)) == 2 for epoch in range(500)])
    both = (twice[:, :-1] & twice[:, 1:]).double().mean()
    assert abs(float(both) - 0.5 * 9 / 19) < 0.02


def test_no_image_is_left_out() -> None:
    sampler = RepeatFactorSampler(TARGETS)
    assert all(len(sampler.order(0, epoch).unique()) == 100 for epoch in range(20))


def test_equal_counts_make_it_a_plain_shuffle() -> None:
    order = RepeatFactorSampler([0, 1, 2] * 20).order(0, 0)
    assert order.sort().values.tolist() == list(range(60)) != order.tolist()


def test_images_are_shuffled_among_each_other() -> None:
    # repeats are adjacent on the line, but must not be adjacent in the order
    order = RepeatFactorSampler([0] * 50 + [1] * 2, num_samples=5200).order(0, 0)
    assert float((order[1:] == order[:-1]).float().mean()) < 0.1


def test_another_length_keeps_the_ratio_of_the_classes() -> None:
    order = RepeatFactorSampler(TARGETS, num_samples=115_000).order(0, 0)
    expected = 115_000 * torch.bincount(TARGETS, RepeatFactorSampler(TARGETS).factors_N)
    counts = torch.bincount(TARGETS[order]).double()
    assert float((counts - expected / expected.sum() * 115_000).abs().max()) < 100


def test_warns_where_a_threshold_repeats_nothing() -> None:
    with pytest.warns(UserWarning, match=r"the rarest class is in 0\.04 of the images.*mean share, 0\.33"):
        RepeatFactorSampler(TARGETS, threshold=1e-3)


def test_does_not_warn_where_it_repeats_or_was_not_asked() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RepeatFactorSampler(TARGETS, threshold=0.05)
        RepeatFactorSampler([0, 1, 0, 1])


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_refuses_a_threshold_that_is_no_share(threshold: float) -> None:
    with pytest.raises(InputError, match=r"`threshold` must be > 0 and <= 1"):
        RepeatFactorSampler(TARGETS, threshold=threshold)


def test_refuses_sets_without_any_label() -> None:
    with pytest.raises(InputError, match="must name at least one label"):
        RepeatFactorSampler([[], [], []])


@pytest.mark.parametrize("sets", [[[0], [-1]], [[0, 1], [1.5]], [["cat"], ["dog", "cat"]]])
def test_refuses_what_are_no_labels_in_sets(sets: list[list[int]]) -> None:
    with pytest.raises(InputError, match=r"must be the .*labels of the training images"):
        RepeatFactorSampler(sets)


def test_refuses_labels_among_sets() -> None:
    with pytest.raises(InputError, match="not both"):
        RepeatFactorSampler([[0], 1])  # type: ignore[list-item]


def test_a_class_in_no_pair_changes_nothing() -> None:
    pairs = torch.tensor([0, 1, 2]), torch.tensor([5, 5, 900])
    assert repeat_factors(*pairs, num_images=3).tolist() == pytest.approx([1, 1, math.sqrt(1.5)])
