"""Pasted boxes against the rule of the authors' code, written out for one image at a time."""

import math

import pytest
import torch

from longtail.augment.mixing.boxes import checked_probability, paste
from longtail.errors import InputError
from tests.augment.examples import uniforms


def span(share: float, centre: float, length: int) -> tuple[int, int]:
    """First pixel, and the one after the last, along one side."""
    cut = int(length * math.sqrt(1 - share))
    middle = int(centre * length)
    return max(middle - cut // 2, 0), min(middle + cut // 2, length)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (8, 8), (7, 10), (1, 5)])
def test_equals_the_authors_rule(height, width):
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
    # of a continuous image: E[(side between centre - r/2 and centre + r/2, cut)^2] = E[(r - r^2/4)^2], r^2 uniform
    images = torch.zeros(4000, 1, 64, 64, dtype=torch.uint8)
    _, kept = paste(images, images, uniforms(4000, 4), 1.0)
    expected = 1 / 2 - (1 / 2) * (1 / 2.5) + (1 / 16) * (1 / 3)
    assert 1 - float(kept.mean()) == pytest.approx(expected, rel=0.05)  # an odd side loses a pixel


@pytest.mark.parametrize("probability", [0.0, -0.5, 1.5, math.nan])
def test_a_probability_out_of_range_is_refused(probability):
    with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
        checked_probability(probability)
