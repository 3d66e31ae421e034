import math

import pytest
import torch

from longtail.errors import InputError
from longtail.losses import CrossEntropy, SeesawLoss
from tests.conformance import COUNTS, batch, one_hot, value_and_gradient
from tests.losses.reference import assert_equals_reference, examples, softmax


def seesaw_from_the_paper(seen: list[float], p: float, q: float, z: list[float], y: int) -> float:
    """e^z_y over itself plus M C e^z of the others, with the authors' floor of 0.01 under the true class's score."""
    scores = softmax(z)
    total = math.exp(z[y])
    for j in range(len(z)):
        if j != y:
            mitigation = (seen[j] / seen[y]) ** p if seen[j] < seen[y] else 1.0
            ratio = scores[j] / max(scores[y], 0.01)
            total += mitigation * (ratio**q if ratio > 1 else 1.0) * math.exp(z[j])
    return -math.log(math.exp(z[y]) / total)


def seesaw_that_has_seen(seen: list[float], **options: float) -> SeesawLoss:
    loss = SeesawLoss(COUNTS, reduction="none", **options).eval()  # type: ignore[arg-type]
    loss.seen_C.copy_(torch.tensor(seen))
    return loss


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (0.8, 0.0), (0.0, 2.0), (1.5, 0.5)])
def test_equals_the_paper(p: float, q: float) -> None:
    seen = [400.0, 100.0, 20.0, 3.0, 1.0]
    assert_equals_reference(seesaw_that_has_seen(seen, p=p, q=q), lambda z, y: seesaw_from_the_paper(seen, p, q, z, y))


def test_values_by_hand() -> None:
    """Counts 100 and 1, p = 1/2, equal scores: class 1 has weight 1/10 for label 0, class 0 has 1 for label 1."""
    loss = SeesawLoss([100, 1], p=0.5, q=2, reduction="none").eval()
    loss.seen_C.copy_(torch.tensor([100.0, 1.0]))
    values = loss(torch.zeros(2, 2), torch.tensor([0, 1]))
    assert values.tolist() == pytest.approx([math.log(1.1), math.log(2)])


def test_without_both_factors_it_is_cross_entropy() -> None:
    logits, targets = examples()
    torch.testing.assert_close(SeesawLoss(COUNTS, p=0, q=0)(logits, targets), CrossEntropy(COUNTS)(logits, targets))


def test_mitigation_pushes_a_rare_class_down_less() -> None:
    _, gradient = value_and_gradient(
        seesaw_that_has_seen([1000, 100, 10, 10, 1], q=0), torch.zeros(1, 5), torch.tensor([0])
    )
    pushes = gradient[0, 1:].tolist()
    assert pushes == sorted(pushes, reverse=True)
    assert pushes[0] > 10 * pushes[3]


def test_compensation_pushes_down_what_is_scored_above_the_truth() -> None:
    logits, label = torch.tensor([[0.0, 2.0, -2.0, 0.0, 0.0]]), torch.tensor([0])
    seen = [1.0] * 5
    _, plain = value_and_gradient(seesaw_that_has_seen(seen, q=0), logits, label)
    _, compensated = value_and_gradient(seesaw_that_has_seen(seen, q=2), logits, label)
    assert compensated[0, 1] > plain[0, 1]
    assert compensated[0, 2] < plain[0, 2]  # its share of a larger total


def test_counts_accumulate_before_the_loss_and_only_in_training() -> None:
    loss = SeesawLoss([3, 2, 1])
    logits, targets = torch.zeros(4, 3), torch.tensor([0, 0, 1, -100])
    first = loss(logits, targets)
    assert loss.seen_C.tolist() == [2, 1, 0]
    # label 0 twice: the weight of class 1 is (1/2)^0.8, as is that of class 2 (unseen, counted as 1); label 1: both 1
    light = 0.5**0.8
    assert float(first) == pytest.approx((2 * math.log(1 + 2 * light) + math.log(3)) / 3)
    loss(logits, one_hot(torch.tensor([2, 2, 2, 0]), classes=3) / 2)
    assert loss.seen_C.tolist() == [2.5, 1, 1.5]
    loss.eval()(logits, targets)
    assert loss.seen_C.tolist() == [2.5, 1, 1.5]


def test_counts_are_saved() -> None:
    loss = SeesawLoss(COUNTS)
    loss(*batch())
    assert list(loss.state_dict()) == ["seen_C", "lost_C"]
    assert loss.state_dict()["seen_C"].sum() == 16


def test_counts_are_exact_beyond_the_integers_of_float32() -> None:
    loss = SeesawLoss([1, 1])
    loss.seen_C.fill_(2**24)
    for _ in range(5):
        loss(torch.zeros(3, 2), torch.tensor([0, 0, 1]))
    assert (loss.seen_C.double() + loss.lost_C).tolist() == [2**24 + 10, 2**24 + 5]
    assert loss.seen_C.tolist() == [2**24 + 10, 2**24 + 4]  # the even one of the two nearest


def test_a_state_without_the_rounding_errors_loads() -> None:
    loss = SeesawLoss(COUNTS)
    loss.load_state_dict({"seen_C": torch.full((len(COUNTS),), 7.0)})
    assert loss.seen_C.tolist() == [7] * len(COUNTS)


def test_soft_target_counts_as_a_class_with_averaged_count_and_score() -> None:
    seen = [100.0, 4.0, 20.0, 3.0, 1.0]
    z = [0.5, -1.0, 2.0, 0.0, 0.3]
    scores = softmax(z)
    own_seen, own_score = 0.75 * 100 + 0.25 * 4, 0.75 * scores[0] + 0.25 * scores[1]
    total = sum(
        min(1, (seen[j] / own_seen) ** 0.8) * max(1, (scores[j] / own_score) ** 2) * math.exp(z[j]) for j in range(5)
    )
    expected = math.log(total) - 0.75 * z[0] - 0.25 * z[1]
    value = seesaw_that_has_seen(seen)(torch.tensor([z]), torch.tensor([[0.75, 0.25, 0, 0, 0]]))
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_negative_exponents_are_refused() -> None:
    for options in ({"p": -0.1}, {"q": -1.0}, {"q": float("nan")}):
        with pytest.raises(InputError, match=r"`(p|q)` must be >= 0"):
            SeesawLoss(COUNTS, **options)  # type: ignore[arg-type]
