import torch
from scipy.stats import chisquare

from longtail.samplers import SquareRootSampler

TARGETS = torch.tensor([0] * 400 + [1] * 100 + [2] * 25 + [3])


def test_classes_are_drawn_as_the_square_root_of_their_images() -> None:
    order = SquareRootSampler(TARGETS, num_samples=36_000).order(0, 0)
    assert chisquare(torch.bincount(TARGETS[order]), [20_000, 10_000, 5000, 1000]).pvalue > 1e-3


def test_the_imbalance_factor_becomes_its_square_root() -> None:
    order = SquareRootSampler(TARGETS, num_samples=200_000).order(1, 0)
    counts = torch.bincount(TARGETS[order])
    assert abs(float(counts[0] / counts[3]) - 20) < 1  # 400 : 1 in the data
