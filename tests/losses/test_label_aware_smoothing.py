import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import LabelAwareSmoothing
from longtail.losses.label_aware_smoothing import smoothing_of_classes
from tests.conformance import COUNTS
from tests.losses.reference import assert_equals_reference, examples, softmax


def smoothed_as_in_the_text(z: list[float], y: int) -> float:
    """Target 1 - epsilon_y for the true class, epsilon_y / (K - 1) for each other; concave epsilon."""
    rise = (COUNTS[y] - min(COUNTS)) / (max(COUNTS) - min(COUNTS))
    epsilon = 0.1 + (0.4 - 0.1) * math.sin(math.pi / 2 * rise)
    p = softmax(z)
    others = sum(math.log(value) for j, value in enumerate(p) if j != y)
    return -(1 - epsilon) * math.log(p[y]) - epsilon / (len(p) - 1) * others


def test_equals_the_text() -> None:
    assert_equals_reference(LabelAwareSmoothing(COUNTS, head=0.4, tail=0.1, reduction="none"), smoothed_as_in_the_text)


def test_value_by_hand() -> None:
    """Label 0 of counts 100, 1, 1; head 0.2; logits 1, 0, 0: log(e + 2) - 0.8."""
    value = LabelAwareSmoothing([100, 1, 1], head=0.2)(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0]))
    assert float(value) == pytest.approx(math.log(math.e + 2) - 0.8)


def test_authors_code_smooths_by_a_little_less() -> None:
    """The authors' code: `confidence * nll + smoothing * (-logprobs.mean())`; the mean includes the true class."""
    logits, targets = examples()
    logits = logits.float()
    smoothing = smoothing_of_classes(torch.tensor(COUNTS), 0.3, 0.0, "concave").float()[targets]
    nll = F.cross_entropy(logits, targets, reduction="none")
    theirs = (1 - smoothing) * nll - smoothing * F.log_softmax(logits, dim=1).mean(dim=1)
    ours = LabelAwareSmoothing(COUNTS, head=0.3 * 4 / 5, reduction="none")(logits, targets)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("label", [0, 1, 4])
def test_best_confidence_is_one_minus_epsilon(label: int) -> None:
    """Frequent classes, the over-confident ones, are smoothed most."""
    loss = LabelAwareSmoothing(COUNTS, head=0.4, tail=0.1)
    epsilon = float(loss.smoothing_C[label])
    best = torch.full((1, 5), epsilon / 4)
    best[0, label] = 1 - epsilon
    leaf = best.log().requires_grad_()
    loss(leaf, torch.tensor([label])).backward()
    torch.testing.assert_close(leaf.grad, torch.zeros(1, 5), atol=1e-6, rtol=0)


def test_epsilon_runs_from_tail_to_head() -> None:
    for shape in ("concave", "linear", "convex"):
        epsilons = smoothing_of_classes(torch.tensor(COUNTS), 0.4, 0.1, shape)  # type: ignore[arg-type]
        assert float(epsilons[0]) == pytest.approx(0.4)
        assert float(epsilons[-1]) == pytest.approx(0.1)
        assert (epsilons[:-1] > epsilons[1:]).all()


def test_shapes_are_what_they_are_called() -> None:
    """Half-way between the counts: sin(45 degrees), one half, 1 - cos(45 degrees)."""
    counts = torch.tensor([201, 101, 1])
    middle = [float(smoothing_of_classes(counts, 1, 0, shape)[1]) for shape in ("concave", "linear", "convex")]  # type: ignore[arg-type]
    assert middle == pytest.approx([math.sqrt(0.5), 0.5, 1 - math.sqrt(0.5)])


def test_absent_class_is_not_the_rarest_and_takes_no_share() -> None:
    loss = LabelAwareSmoothing([9, 0, 5, 1], head=0.4, tail=0.2, absent="mask", reduction="none")
    expected = LabelAwareSmoothing([9, 5, 1], head=0.4, tail=0.2, reduction="none")
    logits, targets = torch.randn(3, 3), torch.tensor([0, 1, 2])
    with_absent = torch.cat([logits[:, :1], torch.full((3, 1), 5.0), logits[:, 1:]], dim=1)
    torch.testing.assert_close(loss(with_absent, torch.tensor([0, 2, 3])), expected(logits, targets))


def test_no_smoothing_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(LabelAwareSmoothing(COUNTS, head=0)(logits, targets), F.cross_entropy(logits, targets))


def test_bad_options_are_refused() -> None:
    for options in ({"head": 1.0}, {"tail": -0.1}, {"head": float("nan")}):
        with pytest.raises(InputError, match=r"`(head|tail)` must be >= 0 and < 1"):
            LabelAwareSmoothing(COUNTS, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no shape of the smoothing 'concav'; did you mean concave"):
        LabelAwareSmoothing(COUNTS, shape="concav")  # type: ignore[arg-type]
