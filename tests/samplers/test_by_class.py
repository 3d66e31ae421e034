import pytest
import torch
from scipy.stats import chisquare

from longtail.samplers import (
    ClassBalancedSampler,
    ProgressivelyBalancedSampler,
    ReversedSampler,
    SquareRootSampler,
)
from longtail.samplers.by_class import ByClass

LABELS = torch.tensor([4, 0, 4, 9, 0, 4])


def test_groups_are_the_images_of_each_label_in_their_order() -> None:
    groups = ByClass(LABELS)
    assert groups.members_N.tolist() == [1, 4, 0, 2, 5, 3]
    assert groups.counts_K.tolist() == [2, 3, 1]
    assert groups.starts_K.tolist() == [0, 2, 5]


def test_classes_come_at_their_rates_and_images_alike() -> None:
    drawn = ByClass(LABELS).draw(torch.tensor([2.0, 3.0, 5.0]), 30_000, torch.Generator().manual_seed(1))
    expected = [3000, 3000, 3000, 15_000, 3000, 3000]
    assert chisquare(torch.bincount(drawn, minlength=6), expected).pvalue > 1e-3


def test_a_rate_of_zero_is_never() -> None:
    for zero in range(3):
        rates = torch.ones(3)
        rates[zero] = 0
        drawn = ByClass(LABELS).draw(rates, 5000, torch.Generator().manual_seed(0))
        assert sorted(set(LABELS[drawn].tolist())) == sorted({0, 4, 9} - {(0, 4, 9)[zero]})


def test_draws_are_independent_of_each_other() -> None:
    drawn = LABELS[ByClass(LABELS).draw(torch.ones(3), 30_000, torch.Generator().manual_seed(2))]
    pairs = torch.bincount(drawn[::2] * 10 + drawn[1::2], minlength=100)
    assert chisquare(pairs[pairs > 0], [15_000 / 9] * 9).pvalue > 1e-3


def test_extreme_rates_keep_their_ratio() -> None:
    drawn = ByClass(torch.tensor([0, 1, 2])).draw(torch.tensor([1e-30, 2e-30, 0.0]), 9000, torch.Generator())
    assert chisquare(torch.bincount(drawn), [3000, 6000]).pvalue > 1e-3


IMBALANCED = torch.tensor([0] * 400 + [1] * 40 + [2] * 4 + [3])


def test_every_class_is_equally_likely() -> None:
    order = ClassBalancedSampler(IMBALANCED, num_samples=20_000).order(0, 0)
    assert chisquare(torch.bincount(IMBALANCED[order])).pvalue > 1e-3


def test_classes_without_images_take_no_share() -> None:
    targets = IMBALANCED * 3 + 1  # labels 1, 4, 7, 10
    order = ClassBalancedSampler(targets, num_samples=20_000).order(0, 0)
    assert chisquare(torch.bincount(targets[order])[[1, 4, 7, 10]]).pvalue > 1e-3


def test_the_share_of_a_class_does_not_vary_less_than_independent_draws_would() -> None:
    shares = [
        torch.bincount(IMBALANCED[ClassBalancedSampler(IMBALANCED, num_samples=400).order(0, epoch)])[0]
        for epoch in range(300)
    ]
    variance = torch.stack(shares).double().var()
    assert 0.7 < variance / (400 * 0.25 * 0.75) < 1.4  # binomial; class-aware cycles would have almost none


SQUARES = torch.tensor([0] * 400 + [1] * 100 + [2] * 25 + [3])


def test_classes_are_drawn_as_the_square_root_of_their_images() -> None:
    order = SquareRootSampler(SQUARES, num_samples=36_000).order(0, 0)
    assert chisquare(torch.bincount(SQUARES[order]), [20_000, 10_000, 5000, 1000]).pvalue > 1e-3


def test_the_imbalance_factor_becomes_its_square_root() -> None:
    order = SquareRootSampler(SQUARES, num_samples=200_000).order(1, 0)
    counts = torch.bincount(SQUARES[order])
    assert abs(float(counts[0] / counts[3]) - 20) < 1  # 400 : 1 in the data


HALVES = torch.tensor([0] * 80 + [1] * 40 + [2] * 10)


def test_classes_are_drawn_as_the_inverse_of_their_images() -> None:
    # BBN, Sec. 4.2: w = n_max / n = 1, 2, 8; P = w / 11
    order = ReversedSampler(HALVES, num_samples=22_000).order(0, 0)
    assert chisquare(torch.bincount(HALVES[order]), [2000, 4000, 16_000]).pvalue > 1e-3


def test_the_order_of_the_classes_turns_round() -> None:
    drawn = torch.bincount(HALVES[ReversedSampler(HALVES).order(0, 0)])
    assert drawn.argsort().tolist() == [0, 1, 2]
    assert torch.bincount(HALVES).argsort().tolist() == [2, 1, 0]


SHARES = torch.tensor([0] * 90 + [1] * 9 + [2])
INSTANCE, BALANCED = torch.tensor([0.9, 0.09, 0.01]).double(), torch.full((3,), 1 / 3).double()


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.999])
def test_classes_move_from_their_share_to_an_equal_one(progress: float) -> None:
    order = ProgressivelyBalancedSampler(SHARES, num_samples=30_000).order(0, 0, progress)
    expected = 30_000 * ((1 - progress) * INSTANCE + progress * BALANCED)
    assert chisquare(torch.bincount(SHARES[order]), expected / expected.sum() * 30_000).pvalue > 1e-3


def test_iteration_follows_the_progress_of_its_epoch() -> None:
    sampler = ProgressivelyBalancedSampler(SHARES, num_samples=3000)
    shares = []
    for epoch in range(10):
        sampler.set_epoch(epoch, progress=epoch / 10)
        shares.append(float((SHARES[list(sampler)] == 2).float().mean()))
    assert all(later > earlier for earlier, later in zip(shares, shares[2:], strict=False))


def test_resuming_keeps_the_progress() -> None:
    sampler, resumed = ProgressivelyBalancedSampler(SHARES), ProgressivelyBalancedSampler(SHARES)
    sampler.set_epoch(0, progress=0.9)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(sampler) == sampler.order(0, 0, 0.9).tolist() != sampler.order(0, 0).tolist()
