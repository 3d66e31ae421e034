"""Checks of every mixing, the draw of shares, mixup against its formula, and Remix against Eq. 10 of its paper."""

import copy
import inspect
import math
import pickle
import re

import pytest
import torch

from longtail import augment
from longtail.augment import Mixup, Remix
from longtail.augment.mixing import Mixing, blend
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, mixed_labels, uniforms

every = pytest.mark.parametrize("name", augment.MIXINGS)


def build(name: str, **options: object) -> Mixing:
    return getattr(augment, name)(list(COUNTS), **options)


def everything(one: Mixing) -> tuple[torch.Tensor, torch.Tensor]:
    return one(*batch(), uniforms(24, one.num_uniforms))


@every
def test_the_labels_of_an_image_sum_to_one_and_lie_on_its_two_classes(name):
    _, labels, _, partner_labels = batch()
    _, soft = everything(build(name))
    assert soft.sum(1).tolist() == pytest.approx([1.0] * 24, abs=1e-6)
    assert (soft >= 0).all()
    for row, own, other in zip(soft, labels, partner_labels, strict=True):
        assert set(row.nonzero().flatten().tolist()) <= {int(own), int(other)}


@every
def test_an_image_mixed_with_itself_stays_what_it_is(name):
    images, labels, _, _ = batch()
    one = build(name)
    mixed, soft = one(images, labels, images, labels, uniforms(24, one.num_uniforms))
    assert torch.equal(mixed, images.to(mixed.dtype))
    assert torch.equal(soft, torch.eye(4)[labels])


@every
def test_an_image_depends_on_nothing_but_itself_its_partner_and_its_numbers(name):
    one, pairs = build(name), batch()
    numbers = uniforms(24, one.num_uniforms)
    mixed, soft = one(*pairs, numbers)
    for i in (0, 7, 23):
        alone = one(*(part[i : i + 1] for part in pairs), numbers[i : i + 1])
        assert torch.equal(alone[0][0], mixed[i])
        assert torch.equal(alone[1][0], soft[i])


@every
def test_the_images_that_come_in_are_not_changed(name):
    pairs, one = batch(), build(name)
    one(*pairs, uniforms(24, one.num_uniforms))
    assert all(torch.equal(now, before) for now, before in zip(pairs, batch(), strict=True))


@every
def test_values_stay_in_the_range_of_pixels_at_the_ends_of_the_numbers(name):
    one, pairs = build(name), batch()
    for number in (0.0, 0.5, 1 - 2**-24):  # the last is the largest value of torch.rand
        mixed, soft = one(*pairs, torch.full((24, one.num_uniforms), number))
        low = torch.minimum(pairs[0], pairs[2]).to(mixed.dtype)
        high = torch.maximum(pairs[0], pairs[2]).to(mixed.dtype)
        assert ((mixed >= low) & (mixed <= high)).all()
        assert ((soft >= 0) & (soft <= 1)).all()


@every
def test_it_compiles_to_one_graph_with_the_same_value(name):
    torch._dynamo.reset()
    one = build(name)
    compiled = torch.compile(copy.deepcopy(one), backend="eager", fullgraph=True)
    numbers = uniforms(24, one.num_uniforms)
    for got, expected in zip(compiled(*batch(), numbers), one(*batch(), numbers), strict=True):
        assert torch.equal(got, expected)


@every
def test_it_pickles_and_has_no_state_to_save(name):
    one = build(name)
    again = pickle.loads(pickle.dumps(one))
    assert not one.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(everything(again), everything(one), strict=True))


@every
def test_classes_renamed_are_columns_moved(name):
    images, labels, partners, partner_labels = batch()
    rename = torch.tensor([2, 0, 3, 1])
    counts = torch.empty(4, dtype=torch.long)
    counts[rename] = torch.tensor(COUNTS)
    one, other = build(name), getattr(augment, name)(counts)
    numbers = uniforms(24, one.num_uniforms)
    plain = one(images, labels, partners, partner_labels, numbers)
    renamed = other(images, rename[labels], partners, rename[partner_labels], numbers)
    assert torch.equal(renamed[0], plain[0])
    assert torch.equal(renamed[1][:, rename], plain[1])


def test_shares_of_beta_one_half_are_those_of_the_arcsine_law():
    numbers = uniforms(1000, 4)
    drawn = build("CutMix", alpha=0.5).numbers(numbers)
    assert drawn[:, 0].tolist() == pytest.approx([math.sin(math.pi * u / 2) ** 2 for u in numbers[:, 0].tolist()])
    assert torch.equal(drawn[:, 1:], numbers[:, 1:])
    assert drawn.dtype == torch.float32


def test_shares_of_beta_two_solve_its_cubic():
    numbers = uniforms(1000, 1)
    share = build("Mixup", alpha=2.0).numbers(numbers).double()
    assert (3 * share**2 - 2 * share**3).flatten().tolist() == pytest.approx(numbers.flatten().tolist(), abs=1e-6)


def test_shares_of_beta_one_are_the_numbers_themselves():
    numbers = uniforms(10, 1)
    assert torch.equal(build("Mixup").numbers(numbers), numbers)


@pytest.mark.parametrize("alpha", [0.2, 0.4, 3.0])
def test_shares_have_the_mean_and_variance_of_the_law(alpha):
    drawn = build("Mixup", alpha=alpha).numbers(uniforms(100_000, 1)).double()
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_blend_weighs_the_image_by_its_share():
    white, black = torch.full((2, 3, 1, 1), 255, dtype=torch.uint8), torch.zeros(2, 3, 1, 1)
    assert blend(white, black, torch.tensor([0.2, 1.0]))[:, 0, 0, 0].tolist() == pytest.approx([51.0, 255.0])


@every
@pytest.mark.parametrize("alpha", [0.0, -1.0, math.nan, math.inf])
def test_an_alpha_that_is_not_positive_is_refused(name, alpha):
    with pytest.raises(InputError, match=f"`alpha` must be > 0 .* got {alpha}"):
        build(name, alpha=alpha)


@every
def test_partners_of_another_number_or_size_are_refused(name):
    images, labels, partners, partner_labels = batch()
    one = build(name)
    numbers = uniforms(24, one.num_uniforms)
    with pytest.raises(InputError, match=re.escape("the shape of the images, (24, 3, 7, 9) with labels (24,)")):
        one(images, labels, partners[:1], partner_labels, numbers)
    with pytest.raises(InputError, match=re.escape("with labels (23,)")):
        one(images, labels, partners, partner_labels[1:], numbers)
    with pytest.raises(InputError, match=re.escape(f"must have shape (24, {one.num_uniforms}), got (23")):
        one(images, labels, partners, partner_labels, numbers[1:])


@every
def test_all_options_are_keyword_only_documented_and_in_the_repr(name):
    first, *options = inspect.signature(getattr(augment, name)).parameters.values()
    assert first.name == "class_counts"
    for option in options:
        assert option.kind is option.KEYWORD_ONLY
        assert f"        {option.name}: " in getattr(augment, name).__doc__
        assert f"{option.name}={option.default!r}" in repr(build(name))


def test_mixup_equals_the_formula_of_the_paper():
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


def test_mixing_before_centering_the_pixels_is_mixing_after():
    images, labels, partners, partner_labels = batch()
    shares = uniforms(24, 1)
    before, _ = Mixup(COUNTS)(images, labels, partners, partner_labels, shares)
    after, _ = Mixup(COUNTS)(images / 64 - 2, labels, partners / 64 - 2, partner_labels, shares)
    torch.testing.assert_close(before / 64 - 2, after, rtol=0, atol=1e-5)


def label_share(own: int, other: int, share: float, kappa: float, tau: float) -> float:
    """Eq. 10 of the paper."""
    if own / other >= kappa and share < tau:
        return 0.0
    if own / other <= 1 / kappa and 1 - share < tau:
        return 1.0
    return share


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (3.0, 1.0), (2.0, 0.3), (4.0, 0.9)])
def test_remix_equals_the_formula_of_the_paper(kappa, tau):
    images, labels, partners, partner_labels = batch(96)
    shares = uniforms(96, 1)
    _, soft = Remix(COUNTS, kappa=kappa, tau=tau)(images, labels, partners, partner_labels, shares)
    by_hand = [
        label_share(COUNTS[own], COUNTS[other], share, kappa, tau)
        for own, other, share in zip(labels, partner_labels, shares.flatten().tolist(), strict=True)
    ]
    assert {0.0, 1.0} < set(by_hand)
    torch.testing.assert_close(soft, mixed_labels(labels, partner_labels, by_hand).float(), rtol=0, atol=1e-6)


def test_images_of_remix_are_those_of_mixup():
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix(COUNTS)(*pairs, shares)[0], Mixup(COUNTS)(*pairs, shares)[0])


@pytest.mark.parametrize("options", [{"tau": 0.0}, {"kappa": 9.5}])
def test_without_a_majority_it_is_mixup(options):
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix(COUNTS, **options)(*pairs, shares)[1], Mixup(COUNTS)(*pairs, shares)[1])


def test_remix_with_equal_counts_is_mixup():
    pairs, shares = batch(), uniforms(24, 1)
    assert torch.equal(Remix([5] * 4)(*pairs, shares)[1], Mixup(COUNTS)(*pairs, shares)[1])


@pytest.mark.parametrize(
    ("own", "other", "share", "expected"),
    [
        (0, 1, 0.49, 0.0),  # 90 is three times 30, exactly kappa: a majority
        (0, 1, 0.50, 0.5),  # but its share is not below tau
        (1, 0, 0.51, 1.0),
        (1, 0, 0.50, 0.5),
        (1, 2, 0.10, 0.1),  # 30 is not a majority relative to 29
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
def test_options_of_remix_out_of_range_are_refused(options):
    with pytest.raises(InputError, match=r"`kappa` must be > 1|`tau` must be >= 0 and <= 1"):
        Remix(COUNTS, **options)
