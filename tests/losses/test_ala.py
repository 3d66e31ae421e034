import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import ALALoss
from longtail.losses.ala import quantity_factors
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import assert_equals_reference, own_gradient


def ala_of_the_paper(z: list[float], y: int) -> float:
    """A softmax of 30 times the cosines, the true one less quantity factor times difficulty factor."""
    quantity = 1 / math.log(COUNTS[y] / min(COUNTS) + 1)
    difficulty = (1 - z[y]) / 2
    own = math.exp(30 * (z[y] - quantity * difficulty))
    return -math.log(own / (own + sum(math.exp(30 * value) for j, value in enumerate(z) if j != y)))


def test_equals_the_paper() -> None:
    assert_equals_reference(ALALoss(COUNTS, reduction="none"), ala_of_the_paper, scale=0.3)


def test_value_by_hand() -> None:
    """Counts 3 and 1, label 0, cosines 0 and 0: the margin is 1 / log 4 / 2, so log(1 + e^(2 * 0.36067))."""
    value = ALALoss([3, 1], scale=2)(torch.zeros(1, 2), torch.tensor([0]))
    assert float(value) == pytest.approx(math.log1p(math.exp(0.7213475)))


def test_quantity_factor_falls_with_the_count_and_ignores_its_unit() -> None:
    factors = quantity_factors(torch.tensor(COUNTS))
    assert factors[-1] == pytest.approx(1 / math.log(2))
    assert (factors[:-1] < factors[1:]).all()
    torch.testing.assert_close(quantity_factors(7 * torch.tensor(COUNTS)), factors)


def test_absent_class_does_not_count_as_the_rarest() -> None:
    assert quantity_factors(torch.tensor([9, 0, 3])).tolist() == pytest.approx([1 / math.log(4), 0, 1 / math.log(2)])


def margin(count: int, cosine: float) -> float:
    """Recover the margin from the loss of two classes: log(1 + e^(other - cosine + m))."""
    value = ALALoss([count, 1], scale=1)(torch.tensor([[cosine, 0.0]]).double(), torch.tensor([0]))
    return math.log(math.expm1(float(value))) + cosine


def test_easy_example_of_a_rare_class_gets_less_than_a_hard_one_of_a_full_class() -> None:
    """The argument of the paper against margins by quantity alone."""
    assert margin(count=2, cosine=0.95) < margin(count=200, cosine=-0.5)
    assert margin(count=2, cosine=0.2) > margin(count=200, cosine=0.2)


def test_margin_vanishes_when_the_example_is_learnt() -> None:
    assert margin(count=1, cosine=1.0) == pytest.approx(0, abs=1e-6)
    margins = [margin(count=1, cosine=c / 4) for c in range(-4, 5)]
    assert margins == sorted(margins, reverse=True)


def test_rarer_class_pulls_harder() -> None:
    pulls = [own_gradient(ALALoss(COUNTS, scale=2), label) for label in range(5)]
    assert pulls == sorted(pulls)
    assert pulls[4] > pulls[0]


def test_many_images_make_it_scaled_cross_entropy() -> None:
    """Against a class of one image, one of 10^15 has a margin of 0.029 at most."""
    logits, targets = torch.tensor([[0.1, 0.3]]), torch.tensor([0])
    value, _ = value_and_gradient(ALALoss([10**15, 1], scale=1), logits, targets)
    torch.testing.assert_close(value, F.cross_entropy(logits, targets), atol=0.02, rtol=0)


def test_bad_options_are_refused() -> None:
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="`scale` must be > 0"):
            ALALoss(COUNTS, scale=scale)
