import torch
from scipy.stats import chisquare

from longtail.samplers import ReversedSampler

TARGETS = torch.tensor([0] * 80 + [1] * 40 + [2] * 10)


def test_classes_are_drawn_as_the_inverse_of_their_images() -> None:
    # BBN, Sec. 4.2: w = n_max / n = 1, 2, 8; P = w / 11
    order = ReversedSampler(TARGETS, num_samples=22_000).order(0, 0)
    assert chisquare(torch.bincount(TARGETS[order]), [2000, 4000, 16_000]).pvalue > 1e-3


def test_the_order_of_the_classes_turns_round() -> None:
    drawn = torch.bincount(TARGETS[ReversedSampler(TARGETS).order(0, 0)])
    assert drawn.argsort().tolist() == [0, 1, 2]
    assert torch.bincount(TARGETS).argsort().tolist() == [2, 1, 0]
