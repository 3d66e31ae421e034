"""Remix against Eq. 10 of its paper, for every pair of classes."""

import pytest
import torch

from longtail.augment.mixing import Mixup, Remix
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, mixed_labels, uniforms


def label_share(own: int, other: int, share: float, kappa: float, tau: float) -> float:
    """Eq. 10, as it stands there."""
    if own / other >= kappa and share < tau:
        return 0.0
    if own / other <= 1 / kappa and 1 - share < tau:
        return 1.0
    return share


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (3.0, 1.0), (2.0, 0.3), (4.0, 0.9)])
def test_equals_the_formula_of_the_paper(kappa, tau):
    images, labels, partners, partner_labels = batch(96)
    shares = uniforms(96, 1)
    _, soft = Remix(COUNTS, kappa=kappa, tau=tau)(images, labels, partners, partner_labels, shares)
    by_hand = [
        label_share(COUNTS[own], COUNTS[other], share, kappa, tau)
        for own, other, share in zip(labels, partner_labels, shares.flatten().tolist(), strict=True)
    ]
    assert {0.0, 1.0} < set(by_hand)
    torch.testing.assert_close(soft, mixed_labels(labels, partner_labels, by_hand).float(), rtol=0, atol=1e-6)


def test_images_are_those_of_mixup():
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix(COUNTS)(*pairs, shares)[0], Mixup(COUNTS)(*pairs, shares)[0])


@pytest.mark.parametrize("options", [{"tau": 0.0}, {"kappa": 9.5}])
def test_without_a_majority_it_is_mixup(options):
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix(COUNTS, **options)(*pairs, shares)[1], Mixup(COUNTS)(*pairs, shares)[1])


def test_equal_counts_give_mixup():
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix([5] * 4)(*pairs, shares)[1], Mixup(COUNTS)(*pairs, shares)[1])


@pytest.mark.parametrize(
    ("own", "other", "share", "expected"),
    [
        (0, 1, 0.49, 0.0),  # 90 is three times 30: a majority, at kappa itself
        (0, 1, 0.50, 0.5),  # but its share is not below tau
        (1, 0, 0.51, 1.0),
        (1, 0, 0.50, 0.5),
        (1, 2, 0.10, 0.1),  # 30 is no majority to 29
        (1, 3, 0.49, 0.0),
        (2, 3, 0.49, 0.49),  # 29 is not three times 10
    ],
)
def test_at_the_edges_of_the_rule(own, other, share, expected):
    image = torch.zeros(1, 1, 1, 1)
    _, soft = Remix(COUNTS)(image, torch.tensor([own]), image, torch.tensor([other]), torch.tensor([[share]]))
    assert float(soft[0, own]) == pytest.approx(expected)


def test_rare_classes_gain_what_full_ones_lose():
    # of two classes, one a majority: lambda < 1/2 gives all to the rare one, else the rare one has 1 - lambda
    image = torch.zeros(20_000, 1, 1, 1)
    labels = torch.zeros(20_000, dtype=torch.long)
    _, soft = Remix(COUNTS)(image, labels, image, labels + 3, uniforms(20_000, 1))
    assert soft.mean(0).tolist() == pytest.approx([0.375, 0, 0, 0.625], abs=0.01)


@pytest.mark.parametrize(
    "options", [{"kappa": 1.0}, {"kappa": -3.0}, {"tau": -0.1}, {"tau": 1.1}, {"tau": float("nan")}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=r"kappa must be above 1 and tau in \[0, 1\]"):
        Remix(COUNTS, **options)
