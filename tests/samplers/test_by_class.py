import torch
from scipy.stats import chisquare

from longtail.samplers.by_class import ByClass

TARGETS = torch.tensor([4, 0, 4, 9, 0, 4])


def test_groups_are_the_images_of_each_label_in_their_order() -> None:
    groups = ByClass(TARGETS)
    assert groups.members_N.tolist() == [1, 4, 0, 2, 5, 3]
    assert groups.counts_K.tolist() == [2, 3, 1]
    assert groups.starts_K.tolist() == [0, 2, 5]


def test_classes_come_at_their_rates_and_images_alike() -> None:
    drawn = ByClass(TARGETS).draw(torch.tensor([2.0, 3.0, 5.0]), 30_000, torch.Generator().manual_seed(1))
    expected = torch.tensor([0.3 / 3, 0.2 / 2, 0.3 / 3, 0.5, 0.2 / 2, 0.3 / 3]) * 30_000
    assert chisquare(torch.bincount(drawn, minlength=6), expected, sum_check=False).pvalue > 1e-3


def test_a_rate_of_zero_is_never() -> None:
    for zero in range(3):
        rates = torch.ones(3)
        rates[zero] = 0
        drawn = ByClass(TARGETS).draw(rates, 5000, torch.Generator().manual_seed(0))
        assert sorted(set(TARGETS[drawn].tolist())) == sorted({0, 4, 9} - {(0, 4, 9)[zero]})


def test_draws_are_independent_of_each_other() -> None:
    drawn = TARGETS[ByClass(TARGETS).draw(torch.ones(3), 30_000, torch.Generator().manual_seed(2))]
    pairs = torch.bincount(drawn[::2] * 10 + drawn[1::2], minlength=100)
    assert chisquare(pairs[pairs > 0], 15_000 / 9 * torch.ones(9), sum_check=False).pvalue > 1e-3


def test_extreme_rates_keep_their_ratio() -> None:
    drawn = ByClass(torch.tensor([0, 1, 2])).draw(torch.tensor([1e-30, 2e-30, 0.0]), 9000, torch.Generator())
    assert chisquare(torch.bincount(drawn), [3000, 6000]).pvalue > 1e-3
