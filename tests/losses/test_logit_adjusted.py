import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy, LogitAdjustedLoss
from tests.conformance import COUNTS
from tests.losses.reference import TOTAL, assert_equals_reference, examples, own_gradient


def pairwise_margins_eq_10(tau: float, z: list[float], y: int) -> float:
    """log(1 + sum over other classes of (pi_j / pi_y)^tau e^(z_j - z_y))."""
    prior = [n / TOTAL for n in COUNTS]
    return math.log1p(sum((prior[j] / prior[y]) ** tau * math.exp(z[j] - z[y]) for j in range(len(z)) if j != y))


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_equals_equation_10(tau: float) -> None:
    loss = LogitAdjustedLoss(COUNTS, tau=tau, reduction="none")
    assert_equals_reference(loss, lambda z, y: pairwise_margins_eq_10(tau, z, y))


def test_value_by_hand() -> None:
    """Prior 0.8 and 0.2, tau 2, equal logits: 0.04 / (0.64 + 0.04)."""
    value = LogitAdjustedLoss([80, 20], tau=2.0)(torch.zeros(1, 2), torch.tensor([1]))
    assert float(value) == pytest.approx(-math.log(0.04 / 0.68))


def test_tau_one_is_balanced_softmax_and_tau_zero_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS)(logits, targets), BalancedSoftmax(COUNTS)(logits, targets))
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS, tau=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets))


def test_rarer_class_pulls_harder_the_more_so_with_tau() -> None:
    for label in (2, 3, 4):
        pulls = [own_gradient(LogitAdjustedLoss(COUNTS, tau=tau), label) for tau in (0.0, 0.5, 1.0)]
        assert pulls == sorted(pulls)
    assert own_gradient(LogitAdjustedLoss(COUNTS), 4) > own_gradient(LogitAdjustedLoss(COUNTS), 0)


@pytest.mark.parametrize("tau", [-0.5, float("nan")])
def test_negative_tau_is_refused(tau: float) -> None:
    with pytest.raises(InputError, match=r"`tau` must be >= 0 .*, got"):
        LogitAdjustedLoss(COUNTS, tau=tau)
