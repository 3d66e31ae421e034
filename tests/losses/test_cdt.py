import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import CDTLoss, CrossEntropy
from longtail.losses.cdt import class_temperatures
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import assert_equals_reference, examples, softmax


def cdt_from_the_paper(z: list[float], y: int) -> float:
    """Softmax of z_c / a_c with a_c = (n_max / n_c)^gamma."""
    return -math.log(softmax([value / (max(COUNTS) / n) ** 0.4 for value, n in zip(z, COUNTS, strict=True)])[y])


def test_equals_the_paper() -> None:
    assert_equals_reference(CDTLoss(COUNTS, gamma=0.4, reduction="none"), cdt_from_the_paper)


def test_value_by_hand() -> None:
    """Counts 16 and 1, gamma 1/2: temperatures 1 and 4, so logits 0 and 4 count as 0 and 1."""
    value = CDTLoss([16, 1], gamma=0.5)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
    assert float(value) == pytest.approx(math.log1p(math.exp(-1)))


def test_gamma_zero_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(CDTLoss(COUNTS, gamma=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets))


def test_minor_class_needs_a_larger_logit_for_the_same_loss() -> None:
    """The claim of the paper: the decision values of minor classes are enlarged in training."""
    loss = CDTLoss(COUNTS, gamma=0.2, reduction="none")
    logits = 3 * torch.eye(5)
    values = loss(logits, torch.arange(5)).tolist()
    assert values == sorted(values)
    factors = class_temperatures(torch.tensor(COUNTS).float(), 0.2)
    torch.testing.assert_close(loss(logits * factors, torch.arange(5)), torch.full((5,), values[0]))


def test_logits_of_minor_classes_receive_less_gradient() -> None:
    _, gradient = value_and_gradient(CDTLoss(COUNTS), torch.zeros(1, 5), torch.tensor([0]))
    pushes = gradient[0, 1:].tolist()
    assert pushes == sorted(pushes, reverse=True)


@pytest.mark.parametrize("gamma", [-0.1, float("nan")])
def test_negative_gamma_is_refused(gamma: float) -> None:
    with pytest.raises(InputError, match=r"`gamma` must be >= 0 .*, got"):
        CDTLoss(COUNTS, gamma=gamma)
