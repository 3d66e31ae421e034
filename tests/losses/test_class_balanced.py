import math
from typing import Literal

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import ClassBalancedLoss, CrossEntropy
from longtail.losses.class_balanced import effective_number_weights
from tests.conformance import COUNTS, one_hot
from tests.losses.reference import assert_equals_reference, examples, own_gradient, sigmoid, softmax

Kind = Literal["softmax", "sigmoid", "focal"]
KINDS: tuple[Kind, ...] = ("softmax", "sigmoid", "focal")


def effective_number_by_counting(n: int, beta: float) -> float:
    """Proposition 1, by its recursion: E_1 = 1, E_n = 1 + beta E_(n-1)."""
    number = 0.0
    for _ in range(n):
        number = 1 + beta * number
    return number


def weights_from_the_paper(beta: float) -> list[float]:
    inverse = [1 / effective_number_by_counting(n, beta) for n in COUNTS]
    return [len(COUNTS) * value / sum(inverse) for value in inverse]


def class_balanced_from_the_paper(kind: Kind, beta: float, gamma: float, z: list[float], y: int) -> float:
    """The weight of the true class times the loss; for the sigmoid forms p_t is p for it and 1 - p for the others."""
    if kind == "softmax":
        loss = -math.log(softmax(z)[y])
    else:
        p_t = [sigmoid(value if j == y else -value) for j, value in enumerate(z)]
        loss = -sum(((1 - p) ** gamma if kind == "focal" else 1.0) * math.log(p) for p in p_t)
    return weights_from_the_paper(beta)[y] * loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("beta", [0.9, 0.9999])
def test_equals_the_paper(kind: Kind, beta: float) -> None:
    loss = ClassBalancedLoss(COUNTS, kind=kind, beta=beta, gamma=2.0, reduction="none")
    assert_equals_reference(loss, lambda z, y: class_balanced_from_the_paper(kind, beta, 2.0, z, y))


def test_values_by_hand() -> None:
    """Effective numbers of 2 and 1 images at beta 1/2: 1.5 and 1; weights 0.8 and 1.2. All logits 0: every p is 1/2."""
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    unweighted_of: dict[Kind, float] = {"softmax": math.log(2), "sigmoid": 2 * math.log(2), "focal": math.log(2) / 2}
    for kind, unweighted in unweighted_of.items():
        loss = ClassBalancedLoss([2, 1], beta=0.5, kind=kind, gamma=2, reduction="none")
        assert loss(logits, labels).tolist() == pytest.approx([0.8 * unweighted, 1.2 * unweighted])


def test_beta_zero_weights_nothing_and_beta_near_one_inversely() -> None:
    counts = torch.tensor(COUNTS)
    assert effective_number_weights(counts, 0.0).tolist() == [1.0] * 5
    inverse = (1 / counts).double()
    torch.testing.assert_close(
        effective_number_weights(counts, 1 - 1e-9), 5 * inverse / inverse.sum(), rtol=1e-5, atol=0
    )


def test_softmax_with_beta_zero_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(
        ClassBalancedLoss(COUNTS, beta=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets)
    )


def test_focal_with_gamma_zero_is_sigmoid() -> None:
    logits, targets = examples()
    focal, plain = ClassBalancedLoss(COUNTS, kind="focal", gamma=0), ClassBalancedLoss(COUNTS, kind="sigmoid")
    torch.testing.assert_close(focal(logits, targets), plain(logits, targets))


@pytest.mark.parametrize("kind", KINDS)
def test_soft_targets_give_the_expectation_in_every_kind(kind: Kind) -> None:
    logits, targets = examples()
    loss = ClassBalancedLoss(COUNTS, kind=kind, reduction="none")
    mixed = loss(logits, 0.25 * one_hot(targets) + 0.75 * one_hot(targets.roll(1)))
    torch.testing.assert_close(mixed, 0.25 * loss(logits, targets) + 0.75 * loss(logits, targets.roll(1)))


@pytest.mark.parametrize("kind", KINDS)
def test_masked_class_is_dropped_in_every_kind(kind: Kind) -> None:
    """The sigmoid forms sum over classes, so a masked class must contribute 0."""
    logits = torch.tensor([[0.3, 9.0, -0.4]])
    masked = ClassBalancedLoss([9, 0, 2], kind=kind, absent="mask")(logits, torch.tensor([2]))
    torch.testing.assert_close(masked, ClassBalancedLoss([9, 2], kind=kind)(logits[:, ::2], torch.tensor([1])))


@pytest.mark.parametrize("kind", KINDS)
def test_rarer_class_pulls_harder(kind: Kind) -> None:
    pulls = [own_gradient(ClassBalancedLoss(COUNTS, kind=kind), label) for label in range(5)]
    assert pulls == sorted(pulls)
    assert pulls[4] > 100 * pulls[0]


@pytest.mark.parametrize("kind", ["sigmoid", "focal"])
@pytest.mark.parametrize("logit", [-300.0, 300.0])
def test_saturated_sigmoids_stay_finite(kind: Kind, logit: float) -> None:
    leaf = torch.full((1, 5), logit, requires_grad=True)
    value = ClassBalancedLoss(COUNTS, kind=kind)(leaf, torch.tensor([4]))
    value.backward()
    assert value.isfinite()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("beta", [-0.1, 1.0, float("nan")])
def test_beta_outside_its_range_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match=r"`beta` must be >= 0 and < 1"):
        ClassBalancedLoss(COUNTS, beta=beta)


def test_other_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="no kind of class-balanced loss 'softmx'; did you mean softmax"):
        ClassBalancedLoss(COUNTS, kind="softmx")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="`gamma` must be >= 0"):
        ClassBalancedLoss(COUNTS, kind="focal", gamma=-1)
