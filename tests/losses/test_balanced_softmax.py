import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.losses.balanced_softmax import log_prior
from tests.conformance import COUNTS
from tests.losses.reference import assert_equals_reference, examples, own_gradient


def balanced_softmax_eq_4(z: list[float], y: int) -> float:
    """phi_j = n_j e^z_j / sum_i n_i e^z_i."""
    return -math.log(COUNTS[y] * math.exp(z[y]) / sum(n * math.exp(value) for n, value in zip(COUNTS, z, strict=True)))


def bs_quarter_corollary_2_1(z: list[float], y: int) -> float:
    """Softmax of z_j - log gamma*_j, with the optimal margins gamma*_j = n_j^(-1/4) / sum_i n_i^(-1/4)."""
    margins = [n**-0.25 / sum(m**-0.25 for m in COUNTS) for n in COUNTS]
    exps = [math.exp(value - math.log(margin)) for value, margin in zip(z, margins, strict=True)]
    return -math.log(exps[y] / sum(exps))


def test_equals_equation_4() -> None:
    assert_equals_reference(BalancedSoftmax(COUNTS, reduction="none"), balanced_softmax_eq_4)


def test_power_of_a_quarter_equals_corollary_2_1() -> None:
    assert_equals_reference(BalancedSoftmax(COUNTS, power=0.25, reduction="none"), bs_quarter_corollary_2_1)


def test_value_by_hand() -> None:
    """Equal logits: the loss is minus the log of the class's share of the images."""
    loss = BalancedSoftmax([90, 10], reduction="none")
    values = loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert values.tolist() == pytest.approx([-math.log(0.9), -math.log(0.1)])


def test_power_zero_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(BalancedSoftmax(COUNTS, power=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets))


def test_gradient_is_the_balanced_posterior_minus_one_hot() -> None:
    """The gradient with respect to logit j is phi_j - 1[y = j]."""
    logits, targets = examples()
    logits.requires_grad_()
    BalancedSoftmax(COUNTS, reduction="sum")(logits, targets).backward()
    weighted = torch.tensor(COUNTS, dtype=torch.float64) * logits.detach().exp()
    posterior = weighted / weighted.sum(dim=1, keepdim=True)
    torch.testing.assert_close(logits.grad, posterior - torch.eye(5, dtype=torch.float64)[targets], atol=1e-6, rtol=0)


def test_rarer_class_pulls_harder() -> None:
    pulls = [own_gradient(BalancedSoftmax(COUNTS), label) for label in range(5)]
    assert pulls == sorted(pulls)
    assert pulls[0] < 0.2 < 0.8 < pulls[4]


def test_expected_loss_is_least_at_logits_without_bias() -> None:
    """9:1 images that cannot be distinguished: equal logits minimize the expected loss."""
    loss = BalancedSoftmax([90, 10])
    shares = torch.tensor([[0.9, 0.1]])
    gap = torch.zeros(1, requires_grad=True)
    loss(torch.stack([gap, -gap], dim=1), shares).backward()
    assert gap.grad is not None
    assert float(gap.grad) == pytest.approx(0, abs=1e-6)


def test_log_prior_is_largest_at_zero_and_survives_an_absent_class() -> None:
    assert log_prior(torch.tensor([100.0, 10.0, 0.0])).tolist() == pytest.approx([0, -math.log(10), 0])


@pytest.mark.parametrize("power", [-1.0, float("nan")])
def test_negative_power_is_refused(power: float) -> None:
    with pytest.raises(InputError, match=r"`power` must be >= 0 .*, got"):
        BalancedSoftmax(COUNTS, power=power)


def test_an_image_of_a_masked_class_contributes_nothing():
    loss = BalancedSoftmax([5, 0, 3], absent="mask")
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    whole = loss(logits, torch.tensor([0, 1, 2]))
    assert torch.allclose(whole, loss(logits[[0, 2]], torch.tensor([0, 2])))
    soft = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    assert torch.isfinite(loss(logits, soft))
