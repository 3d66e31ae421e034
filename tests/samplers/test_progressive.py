import pytest
import torch
from scipy.stats import chisquare

from longtail.samplers import ProgressivelyBalancedSampler

TARGETS = torch.tensor([0] * 90 + [1] * 9 + [2])
INSTANCE, BALANCED = torch.tensor([0.9, 0.09, 0.01]), torch.full((3,), 1 / 3)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.999])
def test_classes_move_from_their_share_to_an_equal_one(progress: float) -> None:
    order = ProgressivelyBalancedSampler(TARGETS, num_samples=30_000).order(0, 0, progress)
    expected = 30_000 * ((1 - progress) * INSTANCE + progress * BALANCED)
    assert chisquare(torch.bincount(TARGETS[order]), expected, sum_check=False).pvalue > 1e-3


def test_iteration_follows_the_progress_of_its_epoch() -> None:
    sampler = ProgressivelyBalancedSampler(TARGETS, num_samples=3000)
    shares = []
    for epoch in range(10):
        sampler.set_epoch(epoch, progress=epoch / 10)
        shares.append(float((TARGETS[list(sampler)] == 2).float().mean()))
    assert all(later > earlier for earlier, later in zip(shares, shares[2:], strict=False))


def test_resuming_keeps_the_progress() -> None:
    sampler, resumed = ProgressivelyBalancedSampler(TARGETS), ProgressivelyBalancedSampler(TARGETS)
    sampler.set_epoch(0, progress=0.9)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == list(sampler) == sampler.order(0, 0, 0.9).tolist() != sampler.order(0, 0).tolist()
