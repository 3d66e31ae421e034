"""What every mixing promises, and the draw of shares."""

import copy
import math
import pickle
import re

import pytest
import torch

from longtail.augment import mixing
from longtail.augment.mixing.base import Mixing, blend
from longtail.errors import InputError
from tests.augment.examples import COUNTS, batch, uniforms

every = pytest.mark.parametrize("name", mixing.__all__)


def build(name: str, **options: object) -> Mixing:
    return getattr(mixing, name)(list(COUNTS), **options)


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
    for number in (0.0, 0.5, 1 - 2**-24):  # the last is the largest that torch.rand gives
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
    one, other = build(name), getattr(mixing, name)(counts)
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
    with pytest.raises(InputError, match=f"must be positive .* not {alpha}"):
        build(name, alpha=alpha)


@every
def test_partners_of_another_number_or_size_are_refused(name):
    images, labels, partners, partner_labels = batch()
    one = build(name)
    numbers = uniforms(24, one.num_uniforms)
    with pytest.raises(InputError, match=re.escape("needs a partner of its shape: (24, 3, 7, 9) with labels (24,)")):
        one(images, labels, partners[:1], partner_labels, numbers)
    with pytest.raises(InputError, match=re.escape("with labels (23,)")):
        one(images, labels, partners, partner_labels[1:], numbers)
    with pytest.raises(InputError, match=re.escape(f"random numbers of shape (24, {one.num_uniforms}) here, not (23")):
        one(images, labels, partners, partner_labels, numbers[1:])
