import math

import pytest
import torch
from torch.nn import functional as F

from longtail.errors import InputError
from longtail.losses import CrossEntropy, EqualizationLoss
from tests.conformance import COUNTS, value_and_gradient
from tests.losses.reference import TOTAL, assert_equals_reference, examples

RARE = [n / TOTAL < 5e-3 for n in COUNTS]


def seql_with_beta_one(z: list[float], y: int) -> float:
    """w_k = 1 - beta T(f_k) (1 - y_k), in the denominator only."""
    weights = [1 - 1 * rare * (k != y) for k, rare in enumerate(RARE)]
    return -math.log(math.exp(z[y]) / sum(w * math.exp(value) for w, value in zip(weights, z, strict=True)))


def test_equals_the_paper_where_beta_is_one() -> None:
    assert RARE == [False, False, False, True, True]
    assert_equals_reference(EqualizationLoss(COUNTS, gamma=1.0, reduction="none"), seql_with_beta_one)


def test_gamma_zero_is_cross_entropy() -> None:
    logits, targets = examples()
    expected = CrossEntropy(COUNTS)(logits, targets)
    torch.testing.assert_close(EqualizationLoss(COUNTS, gamma=0)(logits, targets), expected)


def test_value_by_hand() -> None:
    """Equal logits, label 0: the rare third class is not in the denominator; label 2: all three are."""
    loss = EqualizationLoss([900, 99, 1], gamma=1.0, reduction="none")
    values = loss(torch.zeros(2, 3), torch.tensor([0, 2]))
    assert values.tolist() == pytest.approx([math.log(2), math.log(3)])


def test_rare_class_is_not_pushed_down_by_others_but_still_pulled_up_by_its_own() -> None:
    logits, targets = examples()
    _, gradient = value_and_gradient(EqualizationLoss(COUNTS, gamma=1.0), logits, targets)
    for c in (3, 4):
        assert not gradient[targets != c, c].any()
        assert (gradient[targets == c, c] < 0).all()
    assert (gradient[targets != 0, 0] > 0).all()


def test_beta_is_drawn_for_each_example_and_class() -> None:
    """The loss of each row is that of one of the four subsets of the two rare classes, with their probabilities."""
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, 0.0, 0.0, 1.0, 2.0]]).expand(20_000, 5)
    values = EqualizationLoss(COUNTS, gamma=0.8, reduction="none")(logits, torch.zeros(20_000, dtype=torch.long))
    for spare_3, spare_4 in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected = math.log(3 + (1 - spare_3) * math.e + (1 - spare_4) * math.e**2)
        share = float(((values - expected).abs() < 1e-4).float().mean())
        assert share == pytest.approx(0.8 ** (spare_3 + spare_4) * 0.2 ** (2 - spare_3 - spare_4), abs=0.015)


def test_all_classes_rare_leaves_only_the_true_one() -> None:
    value, gradient = value_and_gradient(
        EqualizationLoss([5, 5], threshold=1.0, gamma=1.0), torch.tensor([[1.0, 2.0]]), torch.tensor([0])
    )
    assert value == 0
    assert gradient.tolist() == [[0, 0]]


def test_without_a_rare_class_it_is_cross_entropy_whatever_is_drawn() -> None:
    logits, targets = examples()
    counts = [5000, 3237, 2096, 1357, 878]
    torch.testing.assert_close(EqualizationLoss(counts)(logits, targets), F.cross_entropy(logits, targets))


def test_a_loss_without_a_rare_class_warns(caplog: pytest.LogCaptureFixture) -> None:
    EqualizationLoss([999, 1])
    EqualizationLoss([500, 500], threshold=0.0)
    EqualizationLoss([500, 500], gamma=0.0)
    assert not caplog.records
    EqualizationLoss([5000, 100], threshold=0.005)
    (record,) = caplog.records
    assert record.name == "longtail"
    assert "plain cross-entropy here: no class has less than `threshold` = 0.005" in record.getMessage()
    assert "the rarest has 0.02" in record.getMessage()


def test_bad_options_are_refused() -> None:
    for options in ({"gamma": 1.1}, {"gamma": -0.1}, {"threshold": 2.0}, {"threshold": float("nan")}):
        with pytest.raises(InputError, match=r"must be >= 0 and <= 1"):
            EqualizationLoss(COUNTS, **options)  # type: ignore[arg-type]
