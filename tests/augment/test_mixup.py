"""Mixup against its formula, one pixel at a time."""

import pytest
import torch

from longtail.augment.mixing import Mixup
from tests.augment.examples import COUNTS, batch, mixed_labels, uniforms


def test_equals_the_formula_of_the_paper():
    images, labels, partners, partner_labels = batch()
    shares = uniforms(24, 1)
    mixed, soft = Mixup(COUNTS)(images, labels, partners, partner_labels, shares)
    expected = [
        share * image.double() + (1 - share) * partner.double()
        for image, partner, share in zip(images, partners, shares.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(mixed, torch.stack(expected).float(), rtol=1e-6, atol=1e-4)
    by_hand = mixed_labels(labels, partner_labels, shares.flatten().tolist())
    torch.testing.assert_close(soft, by_hand.float(), rtol=0, atol=1e-6)


def test_half_of_the_weight_is_expected_on_the_partner():
    labels = torch.zeros(20_000, dtype=torch.long)
    image = torch.zeros(20_000, 1, 1, 1)
    _, soft = Mixup(COUNTS)(image, labels, image, labels + 3, uniforms(20_000, 1))
    assert soft.mean(0).tolist() == pytest.approx([0.5, 0, 0, 0.5], abs=0.01)


def test_mixing_before_centring_the_pixels_is_mixing_after():
    images, labels, partners, partner_labels = batch()
    shares = uniforms(24, 1)
    before, _ = Mixup(COUNTS)(images, labels, partners, partner_labels, shares)
    after, _ = Mixup(COUNTS)(images / 64 - 2, labels, partners / 64 - 2, partner_labels, shares)
    torch.testing.assert_close(before / 64 - 2, after, rtol=0, atol=1e-5)
