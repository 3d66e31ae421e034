"""CutMix: labels by area, and how often."""

import pytest
import torch

from longtail.augment.mixing import CutMix
from longtail.augment.mixing.boxes import paste
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, mixed_labels, uniforms


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
def test_as_many_images_as_asked_for_are_mixed(probability):
    numbers = uniforms(4000, 4)
    numbers[:, 0] = 0.5  # a box that is never empty
    labels = torch.zeros(4000, dtype=torch.long)
    images = torch.zeros(4000, 1, 8, 8)
    _, soft = CutMix(COUNTS, probability=probability)(images, labels, images, labels + 1, numbers)
    assert float((soft[:, 1] > 0).float().mean()) == pytest.approx(probability, abs=0.03)


def test_a_probability_out_of_range_is_refused():
    with pytest.raises(InputError, match="not 0"):
        CutMix(COUNTS, probability=0)
