import torch

from longtail.samplers import InstanceSampler

TARGETS = torch.tensor([0] * 40 + [1] * 5)


def test_every_image_comes_once_an_epoch() -> None:
    for epoch in range(3):
        assert InstanceSampler(TARGETS).order(0, epoch).sort().values.tolist() == list(range(45))


def test_a_longer_epoch_begins_anew_when_all_images_were_seen() -> None:
    order = InstanceSampler(TARGETS, num_samples=100).order(0, 0)
    assert torch.bincount(order[:90]).tolist() == [2] * 45
    assert torch.bincount(order, minlength=45).max() == 3


def test_a_shorter_epoch_repeats_no_image() -> None:
    assert len(InstanceSampler(TARGETS, num_samples=30).order(0, 0).unique()) == 30
