"""CMO: CutMix with foregrounds of rare classes, within its window of epochs."""

import pytest
import torch

from longtail import samplers
from longtail.augment.mixing import CMO, CutMix
from longtail.augment.mixing.epoch import Mixer
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, uniforms

TARGETS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
CPU = torch.device("cpu")


def test_a_pair_is_mixed_as_by_cutmix():
    pairs, numbers = batch(), uniforms(24, 4)
    for one, other in zip(CMO(COUNTS)(*pairs, numbers), CutMix(COUNTS)(*pairs, numbers), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({}, [1 / 4] * 4),  # the authors' code: an image by 1 / n of its class, so each class alike
        ({"foregrounds": "ReversedSampler"}, [1 / n / sum(1 / m for m in COUNTS) for n in COUNTS]),
    ],
)
def test_foregrounds_are_drawn_by_the_law(options, law):
    mix = Mixer(CMO(COUNTS, **options), TARGETS, (200, 100), 9, CPU).of_epoch(stream=5, epoch=4)
    drawn = torch.bincount(TARGETS[mix.order_SB.flatten()], minlength=4) / 20_000
    assert drawn.tolist() == pytest.approx(law, abs=0.015)


def test_the_default_law_is_that_of_weights_per_image_as_in_the_authors_code():
    weights = 1 / torch.tensor(COUNTS, dtype=torch.float64)[TARGETS]
    per_class = torch.zeros(4, dtype=torch.float64).index_add(0, TARGETS, weights / weights.sum())
    sampler = CMO(COUNTS).partner_sampler
    assert sampler is samplers.ClassBalancedSampler
    drawn = torch.bincount(TARGETS[sampler(TARGETS, num_samples=20_000).order(0, 0)]) / 20_000
    assert drawn.tolist() == pytest.approx(per_class.tolist(), abs=0.015)


def test_the_mass_of_the_labels_is_that_of_both_laws_by_area():
    size = 20_000
    background = TARGETS[torch.arange(size) % len(TARGETS)]
    foreground = torch.arange(size) % 4  # each class alike
    images = torch.zeros(size, 1, 8, 8)
    mixed, soft = CMO(COUNTS)(images, background, images + 1, foreground, uniforms(size, 4))
    pasted = float(mixed.mean())
    expected = [(1 - pasted) * n / sum(COUNTS) + pasted / 4 for n in COUNTS]
    assert soft.mean(0).tolist() == pytest.approx(expected, abs=0.01)
    assert 0.05 < pasted < 0.2


def test_nothing_is_mixed_in_the_first_and_the_last_three_epochs():
    assert [epoch for epoch in range(10) if CMO(COUNTS).acts_in(epoch, 10)] == [3, 4, 5, 6]
    narrow = CMO(COUNTS, off_first=1, off_last=0)
    assert [epoch for epoch in range(4) if narrow.acts_in(epoch, 4)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"probability": 0.0}, r"must lie in \(0, 1\], not 0"),
        ({"off_first": -1}, "numbers of epochs, 0 or more, not -1, 3"),
        ({"off_last": 1.5}, "numbers of epochs, 0 or more, not 3, 1.5"),
        ({"foregrounds": "ReversdSampler"}, "no sampler 'ReversdSampler'; did you mean ReversedSampler"),
    ],
)
def test_mistakes_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        CMO(COUNTS, **options)
