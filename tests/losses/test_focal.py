import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import CrossEntropy, FocalLoss
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import assert_equals_reference, examples, softmax


def focal_eq_4(gamma: float, z: list[float], y: int) -> float:
    p = softmax(z)[y]
    return -math.pow(1 - p, gamma) * math.log(p)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_equals_equation_4(gamma: float) -> None:
    loss = FocalLoss(COUNTS, gamma=gamma, reduction="none")
    assert_equals_reference(loss, lambda z, y: focal_eq_4(gamma, z, y))


def test_value_by_hand() -> None:
    """p = 1/4 and gamma = 2: (3/4)^2 log 4."""
    value = FocalLoss([1, 1, 1, 1], gamma=2)(torch.zeros(1, 4), torch.tensor([0]))
    assert float(value) == pytest.approx(0.5625 * math.log(4))


def test_gamma_zero_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(FocalLoss(COUNTS, gamma=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets))


def test_well_classified_examples_count_less_than_in_cross_entropy() -> None:
    """The paper's Figure 1: at p = 0.9 and gamma = 2 a hundredth, at p = 0.968 about a thousandth."""
    for p, factor in ((0.9, 100), (0.968, 1000)):
        logits = torch.tensor([[math.log(p), math.log(1 - p)]])
        label = torch.tensor([0])
        ratio = CrossEntropy([1, 1])(logits, label) / FocalLoss([1, 1], gamma=2)(logits, label)
        assert float(ratio) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_gradient_is_finite_and_zero_where_the_softmax_is_exactly_one(gamma: float) -> None:
    value, gradient = value_and_gradient(FocalLoss([1, 1], gamma=gamma), torch.tensor([[1e4, 0.0]]), torch.tensor([0]))
    assert value == 0
    assert gradient.tolist() == [[0, 0]]


@pytest.mark.parametrize("gamma", [-1.0, float("nan")])
def test_negative_gamma_is_refused(gamma: float) -> None:
    with pytest.raises(InputError, match=r"`gamma` must be >= 0 .*, got"):
        FocalLoss(COUNTS, gamma=gamma)
