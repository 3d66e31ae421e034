import torch
from scipy.stats import chisquare

from longtail.samplers import ClassBalancedSampler

TARGETS = torch.tensor([0] * 400 + [1] * 40 + [2] * 4 + [3])


def test_every_class_is_equally_likely() -> None:
    order = ClassBalancedSampler(TARGETS, num_samples=20_000).order(0, 0)
    assert chisquare(torch.bincount(TARGETS[order])).pvalue > 1e-3


def test_classes_without_images_take_no_share() -> None:
    targets = TARGETS * 3 + 1  # labels 1, 4, 7, 10
    order = ClassBalancedSampler(targets, num_samples=20_000).order(0, 0)
    assert chisquare(torch.bincount(targets[order])[[1, 4, 7, 10]]).pvalue > 1e-3


def test_the_share_of_a_class_does_not_vary_less_than_independent_draws_would() -> None:
    shares = [
        torch.bincount(TARGETS[ClassBalancedSampler(TARGETS, num_samples=400).order(0, epoch)])[0]
        for epoch in range(300)
    ]
    variance = torch.stack(shares).double().var()
    assert 0.7 < variance / (400 * 0.25 * 0.75) < 1.4  # binomial; class-aware cycles would have almost none
