import math

import pytest
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, LADELoss
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import TOTAL, examples, softmax

PRIOR = [count / TOTAL for count in COUNTS]


def lader_of_the_paper(logits: list[list[float]], labels: list[int], regularization: float) -> float:
    """Eq. 16, class by class and example by example."""
    total = 0.0
    for c, prior in enumerate(PRIOR):
        own = [z[c] for z, y in zip(logits, labels, strict=True) if y == c]
        importance = [1 / len(PRIOR) / PRIOR[y] for y in labels]
        mean = sum(w * math.exp(z[c]) for w, z in zip(importance, logits, strict=True)) / len(logits)
        bound = math.log(mean) + regularization * math.log(mean) ** 2
        total += prior * (bound - (sum(own) / len(own) if own else 0.0))
    return total


def lade_ce_of_the_paper(z: list[float], y: int) -> float:
    return -math.log(softmax([value + math.log(prior) for value, prior in zip(z, PRIOR, strict=True)])[y])


@pytest.mark.parametrize("regularization", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("num_classes_in_batch", [5, 2])
def test_equals_equations_16_and_19(regularization: float, num_classes_in_batch: int) -> None:
    logits, targets = examples()
    targets = targets % num_classes_in_batch
    rows, labels = logits.tolist(), targets.tolist()
    expected = sum(lade_ce_of_the_paper(z, y) for z, y in zip(rows, labels, strict=True)) / len(rows)
    expected += 0.3 * lader_of_the_paper(rows, labels, regularization)
    actual = LADELoss(COUNTS, alpha=0.3, regularization=regularization)(logits, targets)
    assert float(actual) == pytest.approx(expected, rel=2e-6)


def test_value_by_hand() -> None:
    """Equal counts, logits (1, 0) and (0, 1): log(1 + 1/e) - 1 + m + m^2 / 10, with m = log((e + 1) / 2)."""
    m = math.log((math.e + 1) / 2)
    value = LADELoss([5, 5], alpha=1)(torch.eye(2), torch.tensor([0, 1]))
    assert float(value) == pytest.approx(math.log1p(1 / math.e) - 1 + m + m**2 / 10, abs=1e-6)


def test_no_weight_is_balanced_softmax() -> None:
    logits, targets = examples()
    torch.testing.assert_close(LADELoss(COUNTS, alpha=0)(logits, targets), BalancedSoftmax(COUNTS)(logits, targets))


# four inputs and three classes, whose joint distribution a batch of 1000 examples has exactly
EXAMPLES_XC = torch.tensor([[480, 30, 2], [160, 120, 10], [80, 30, 2], [80, 0, 6]])


def world() -> tuple[Tensor, Tensor, Tensor]:
    """Return the optimal logits of each input, log p_u(x|c) / p_u(x), and inputs and labels of the batch."""
    given_class_XC = EXAMPLES_XC / EXAMPLES_XC.sum(dim=0)
    best_XC = (given_class_XC / given_class_XC.mean(dim=1, keepdim=True)).clamp(min=1e-9).log()
    pairs = torch.repeat_interleave(EXAMPLES_XC.flatten())
    return best_XC.double(), pairs // 3, pairs % 3


def gradient_of_table(loss: LADELoss, table_XC: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    _, gradient = value_and_gradient(loss, table_XC[inputs], targets)
    return torch.zeros_like(table_XC).index_add(0, inputs, gradient)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 10.0])
def test_best_logits_hold_no_trace_of_the_training_distribution(alpha: float) -> None:
    """The claim of the paper: both parts are minimal at log p_u(x|c) / p_u(x) for any class counts."""
    best_XC, inputs, targets = world()
    loss = LADELoss(EXAMPLES_XC.sum(dim=0), alpha=alpha)
    gradient = gradient_of_table(loss, best_XC, inputs, targets)
    torch.testing.assert_close(gradient, torch.zeros_like(best_XC), atol=1e-6, rtol=0)


def test_lader_fixes_the_level_that_a_softmax_leaves_open() -> None:
    best_XC, inputs, targets = world()
    counts = EXAMPLES_XC.sum(dim=0)
    shifted_XC = best_XC + 1.0
    assert gradient_of_table(LADELoss(counts, alpha=0), shifted_XC, inputs, targets).abs().max() < 1e-6
    pull_C = gradient_of_table(LADELoss(counts, alpha=1), shifted_XC, inputs, targets).sum(dim=0)
    torch.testing.assert_close(pull_C, 0.2 * counts / 1000, check_dtype=False)  # 2 lambda log m, weighted by the prior


def test_authors_weighting_by_the_class_of_the_logit_has_another_optimum() -> None:
    """Reason of the deviation: LADER of the authors' code is not stationary at the optimum of the paper."""
    best_XC, inputs, targets = world()
    prior_C = EXAMPLES_XC.sum(dim=0) / 1000
    leaf_XC = best_XC.clone().requires_grad_()
    logits = leaf_XC[inputs]
    log_means = (logits - prior_C.log() - math.log(3)).logsumexp(dim=0) - math.log(1000)
    own_means = torch.stack([logits[targets == c, c].mean() for c in range(3)])
    (prior_C * (log_means + 0.1 * log_means**2 - own_means)).sum().backward()
    assert leaf_XC.grad is not None
    assert leaf_XC.grad.abs().max() > 0.05


def test_a_batch_without_a_class_still_bounds_its_logits() -> None:
    _, gradient = value_and_gradient(LADELoss([9, 3, 1]), torch.full((4, 3), 3.0), torch.tensor([0, 0, 1, 1]))
    without = value_and_gradient(LADELoss([9, 3, 1], alpha=0), torch.full((4, 3), 3.0), torch.tensor([0, 0, 1, 1]))[1]
    assert bool((gradient[:, 2] > without[:, 2]).all())


def test_far_logits_do_not_overflow() -> None:
    logits = torch.tensor([[900.0, -900.0], [-900.0, 900.0]])
    value, gradient = value_and_gradient(LADELoss(COUNTS[:2]), logits, torch.tensor([0, 1]))
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_bad_options_are_refused() -> None:
    for options in ({"alpha": -0.1}, {"regularization": -1.0}, {"alpha": float("nan")}):
        with pytest.raises(InputError, match=r"`(alpha|regularization)` must be >= 0"):
            LADELoss(COUNTS, **options)
