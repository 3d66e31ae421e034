"""Pasted boxes against the rule of the authors' code, CutMix with labels by area, and the foregrounds of CMO."""

import math

import pytest
import torch

from longtail import samplers
from longtail.augment import CMO, CutMix
from longtail.augment.cutmix import paste
from longtail.augment.mixer import Mixer
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, mixed_labels, uniforms

TARGETS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))
CPU = torch.device("cpu")


def span(share: float, center: float, length: int) -> tuple[int, int]:
    """First pixel, and the one after the last, along one side."""
    cut = int(length * math.sqrt(1 - share))
    middle = int(center * length)
    return max(middle - cut // 2, 0), min(middle + cut // 2, length)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (7, 10), (1, 5)])
def test_boxes_equal_the_authors_rule(height, width):
    numbers = uniforms(200, 4)
    images, partners = torch.zeros(200, 3, height, width, dtype=torch.uint8), torch.ones(1, dtype=torch.uint8)
    mixed, kept = paste(images, partners.expand_as(images), numbers, 0.7)
    for image, share_kept, (share, row, column, chance) in zip(mixed, kept.tolist(), numbers.tolist(), strict=True):
        expected = torch.zeros(3, height, width, dtype=torch.uint8)
        (top, bottom), (left, right) = span(share, row, height), span(share, column, width)
        if chance < 0.7:
            expected[:, top:bottom, left:right] = 1
        assert torch.equal(image, expected)
        assert share_kept == pytest.approx(1 - float(expected.float().mean()), abs=1e-6)


def test_the_type_of_the_images_is_kept():
    for dtype in (torch.uint8, torch.float32, torch.bfloat16):
        images = torch.zeros(2, 3, 4, 4, dtype=dtype)
        assert paste(images, images + 1, uniforms(2, 4), 1.0)[0].dtype == dtype


def test_the_expected_share_pasted_is_that_of_the_law():
    # of a continuous image: E[(side between center - r/2 and center + r/2, cut)^2] = E[(r - r^2/4)^2], r^2 uniform
    images = torch.zeros(4000, 1, 64, 64, dtype=torch.uint8)
    _, kept = paste(images, images, uniforms(4000, 4), 1.0)
    expected = 1 / 2 - (1 / 2) * (1 / 2.5) + (1 / 16) * (1 / 3)
    assert 1 - float(kept.mean()) == pytest.approx(expected, rel=0.05)  # an odd side loses a pixel


def test_the_label_is_shared_by_the_pixels_that_are_there():
    _, labels, _, partner_labels = batch(96)
    white, black = torch.ones(96, 3, 7, 9), torch.zeros(96, 3, 7, 9)
    mixed, soft = CutMix(COUNTS)(white, labels, black, partner_labels, uniforms(96, 4))
    by_hand = mixed_labels(labels, partner_labels, mixed.mean((1, 2, 3)).tolist())
    torch.testing.assert_close(soft, by_hand.float(), rtol=0, atol=1e-6)
    assert 0.05 < float(1 - mixed.mean()) < 0.4


def test_images_are_pasted_ones():
    pairs, numbers = batch(), uniforms(24, 4)
    expected, _ = paste(pairs[0], pairs[2], numbers, 1.0)
    assert torch.equal(CutMix(COUNTS, probability=1.0)(*pairs, numbers)[0], expected)


@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_the_share_of_mixed_images_is_the_probability(probability):
    numbers = uniforms(4000, 4)
    numbers[:, 0] = 0.5  # a box that is never empty
    labels = torch.zeros(4000, dtype=torch.long)
    images = torch.zeros(4000, 1, 8, 8)
    _, soft = CutMix(COUNTS, probability=probability)(images, labels, images, labels + 1, numbers)
    assert float((soft[:, 1] > 0).float().mean()) == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize("probability", [0.0, -0.5, 1.5, math.nan])
def test_a_probability_out_of_range_is_refused(probability):
    with pytest.raises(InputError, match=r"`probability` must be > 0 and <= 1, got"):
        CutMix(COUNTS, probability=probability)


def test_a_pair_is_mixed_as_by_cutmix():
    pairs, numbers = batch(), uniforms(24, 4)
    for one, other in zip(CMO(COUNTS)(*pairs, numbers), CutMix(COUNTS)(*pairs, numbers), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ({}, [1 / 4] * 4),  # the authors' code: an image by 1 / n of its class, so all classes equally
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
    foreground = torch.arange(size) % 4  # all classes equally
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
        ({"probability": 0.0}, r"`probability` must be > 0 and <= 1, got 0"),
        ({"off_first": -1}, "`off_first` must be an integer >= 0 .*got -1"),
        ({"off_last": 1.5}, r"`off_last` must be an integer >= 0 .*got 1\.5"),
        ({"foregrounds": "ReversdSampler"}, "sampler 'ReversdSampler'; did you mean ReversedSampler"),
    ],
)
def test_bad_options_of_cmo_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        CMO(COUNTS, **options)
