import math

import pytest
import torch
from torch import Tensor

from longtail import losses
from longtail.component import Component, keyword_options
from longtail.data import ClassCounts
from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses import CrossEntropy
from longtail.losses.base import MASKED, Loss, cross_entropy, logsumexp_of_others, pick, rival_cross_entropy
from tests.conformance import value_and_gradient


def test_counts_come_as_list_tensor_or_class_counts() -> None:
    given: list[Countable] = [[3, 1], torch.tensor([3, 1]), ClassCounts([3, 1])]
    for counts in given:
        assert CrossEntropy(counts).counts_C.tolist() == [3.0, 1.0]


def test_mean_is_over_the_rows_that_are_not_ignored() -> None:
    # -log(1/2) and -log(1/4); the third row is ignored
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)], [9.0, 0.0]])
    loss = CrossEntropy([1, 1])(logits, torch.tensor([0, 0, -100]))
    assert float(loss) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_soft_targets_may_sum_to_anything() -> None:
    logits = torch.tensor([[0.0, 0.0]])
    assert float(CrossEntropy([1, 1])(logits, torch.tensor([[2.0, 1.0]]))) == pytest.approx(3 * math.log(2))


def test_masked_logit_has_no_probability_and_a_finite_logarithm() -> None:
    log_p = torch.log_softmax(torch.tensor([0.0, MASKED]), dim=0)
    assert log_p[1].exp() == 0
    assert log_p[1].isfinite()
    assert log_p[1] * 0.0 == 0


def test_pick_and_cross_entropy_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert pick(values, torch.tensor([0, 1])).tolist() == [1.0, 4.0]
    assert pick(values, torch.tensor([[0.5, 0.5], [0.0, 2.0]])).tolist() == [1.5, 8.0]
    assert cross_entropy(torch.zeros(1, 4), torch.tensor([2])).tolist() == pytest.approx([math.log(4)])


def test_all_absent_classes_are_listed_up_to_ten() -> None:
    with pytest.raises(InputError, match=r"(?s)12 of 14 classes.*\n  9\n  ... and 2 more"):
        CrossEntropy([0] * 12 + [1, 1])


def test_rival_cross_entropy_by_hand() -> None:
    """Own logits 1 and 2, rival logits 3 and 4: label 0 meets 1 against 4, label 1 meets 2 against 3."""
    own, rival = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    values = [math.log1p(math.exp(3)), math.log1p(math.exp(1))]
    for label in (0, 1):
        assert float(rival_cross_entropy(own, rival, torch.tensor([label]))) == pytest.approx(values[label])
    soft = rival_cross_entropy(own, rival, torch.tensor([[0.3, 0.9]]))
    assert float(soft) == pytest.approx(0.3 * values[0] + 0.9 * values[1])


def test_rival_cross_entropy_of_soft_targets_is_exact_where_the_softmax_rounds_to_one() -> None:
    def with_margin(logits: Tensor, targets: Tensor) -> Tensor:
        return rival_cross_entropy(logits - 15, logits, targets)

    value, gradient = value_and_gradient(with_margin, torch.tensor([[27.0, -27.0]]), torch.tensor([[1.0, 0.0]]))
    assert float(value) == pytest.approx(math.exp(-39), rel=1e-4)
    assert gradient[0].tolist() == pytest.approx([-math.exp(-39), math.exp(-39)], rel=1e-4)


def test_logsumexp_of_others_leaves_each_class_out_in_turn() -> None:
    logits = 20 * torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits[0] = 1.0  # all equal: any may be the largest
    for c in range(5):
        kept = torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1)
        torch.testing.assert_close(logsumexp_of_others(logits)[:, c], kept.logsumexp(dim=1))


def test_an_unknown_option_is_refused_in_python_and_in_recipes() -> None:
    with pytest.raises(TypeError, match="reducton"):
        CrossEntropy([1, 1], reducton="sum")  # type: ignore[call-arg]
    with pytest.raises(InputError, match="'reducton'; did you mean reduction"):
        Component("CrossEntropy", {"reducton": "sum"}).check(losses)


def test_repr_shows_own_options_and_changed_shared_ones() -> None:
    assert repr(losses.BalancedSoftmax([9, 1])) == "BalancedSoftmax(num_classes=2, power=1.0)"
    assert repr(CrossEntropy([9, 1])) == "CrossEntropy(num_classes=2)"
    assert repr(losses.CDTLoss([9, 0, 1], gamma=0.1, reduction="sum", absent="mask")) == (
        "CDTLoss(num_classes=3, gamma=0.1, reduction='sum', absent='mask')"
    )


@pytest.mark.parametrize("name", losses.__all__)
def test_repr_shows_every_option_of_a_loss(name: str) -> None:
    cls = getattr(losses, name)
    own = set(keyword_options(cls)) - set(keyword_options(Loss))
    assert all(f"{option}=" in repr(cls([9, 1])) for option in own)
