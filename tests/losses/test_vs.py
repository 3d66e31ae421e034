import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import CDTLoss, CrossEntropy, LogitAdjustedLoss, VSLoss
from tests.conformance import COUNTS
from tests.losses.reference import TOTAL, assert_equals_reference, examples, own_gradient, softmax


def vs_from_the_paper(gamma: float, tau: float, z: list[float], y: int) -> float:
    """Softmax of Delta_c z_c + iota_c with Delta_c = (n_c / n_max)^gamma and iota_c = tau log(n_c / N)."""
    adjusted = [
        (n / max(COUNTS)) ** gamma * value + tau * math.log(n / TOTAL) for value, n in zip(z, COUNTS, strict=True)
    ]
    return -math.log(softmax(adjusted)[y])


@pytest.mark.parametrize(("gamma", "tau"), [(0.3, 1.0), (0.05, 0.75)])
def test_equals_the_paper(gamma: float, tau: float) -> None:
    loss = VSLoss(COUNTS, gamma=gamma, tau=tau, reduction="none")
    assert_equals_reference(loss, lambda z, y: vs_from_the_paper(gamma, tau, z, y))


def test_value_by_hand() -> None:
    """Counts 16 and 1, gamma 1/2, tau 1: logits 0 and 4 become 0 and 1 - log 16."""
    value = VSLoss([16, 1], gamma=0.5, tau=1.0)(torch.tensor([[0.0, 4.0]]), torch.tensor([1]))
    assert float(value) == pytest.approx(math.log1p(16 * math.exp(-1)))


def test_its_special_cases_are_logit_adjustment_cdt_and_cross_entropy() -> None:
    """The abstract: the loss captures existing techniques as special cases."""
    logits, targets = examples()
    pairs = [
        (VSLoss(COUNTS, gamma=0, tau=0.7), LogitAdjustedLoss(COUNTS, tau=0.7)),
        (VSLoss(COUNTS, gamma=0.3, tau=0), CDTLoss(COUNTS, gamma=0.3)),
        (VSLoss(COUNTS, gamma=0, tau=0), CrossEntropy(COUNTS)),
    ]
    for loss, special in pairs:
        torch.testing.assert_close(loss(logits, targets), special(logits, targets))


def test_multiplicative_part_slows_rare_classes_at_the_start_and_the_additive_part_counters_it() -> None:
    """The finding of the paper for the start of training, where all logits are 0."""
    pull = [own_gradient(VSLoss(COUNTS, gamma=0.3, tau=tau), label=4) for tau in (0.0, 1.0)]
    assert pull[0] < own_gradient(CrossEntropy(COUNTS), label=4)
    assert pull[0] < pull[1]


def test_multiplicative_part_moves_the_boundary_of_a_separable_problem() -> None:
    """With large logits, only the multiplicative part matters; the additive part is negligible."""
    logits, labels = 1000 * torch.eye(5), torch.arange(5)
    wrong = (logits.roll(1, dims=1) - logits).double()
    additive = LogitAdjustedLoss(COUNTS, reduction="none")(wrong, labels) / 1000
    scaled = VSLoss(COUNTS, gamma=0.3, tau=1.0, reduction="none")(wrong, labels) / 1000
    assert float(additive.std() / additive.mean()) < 0.01
    assert float(scaled.std() / scaled.mean()) > 0.1


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="`tau` must be >= 0"):
        VSLoss(COUNTS, tau=-1)
    with pytest.raises(InputError, match="`gamma` must be >= 0"):
        VSLoss(COUNTS, gamma=-0.1)
