"""What changed, class by class, against slow loops and SciPy's own test."""

import numpy as np
import pytest
from scipy import stats

from longtail.report.pair import Pair, Shift

from .made_up import compared, predictions, together


@pytest.fixture(scope="module")
def pair() -> Pair:
    return together(predictions(0.6), predictions(-0.2)).pairs[0]


def test_gains_are_differences_of_class_accuracies(pair: Pair) -> None:
    for label, gain in enumerate(pair.gains):
        own = pair.reference.predictions.targets == label
        accuracies = [
            100 * float((s.predictions.predicted[own] == label).double().mean()) for s in (pair.reference, pair.other)
        ]
        assert gain == pytest.approx(accuracies[1] - accuracies[0])


def test_a_class_without_a_test_image_has_no_gain() -> None:
    pair = compared([0, 0, 1], [0, 1, 1], [0, 0, 1]).pairs[0]
    assert pair.gains == (50.0, 0.0, None)
    assert pair.certainty == ("chance", "chance", "chance")
    assert pair.counted() == (1, 0)
    assert set(pair.by_score) == {"top1", "balanced", "many", "medium"}


def test_p_values_are_those_of_an_exact_sign_test(pair: Pair) -> None:
    targets = pair.reference.predictions.targets
    for label in range(len(pair.classes)):
        own = targets == label
        before, after = (side[own] for side in pair.right)
        lost, won = int((before & ~after).sum()), int((after & ~before).sum())
        expected = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        assert pair.p_values[label] == pytest.approx(expected)


def test_among_many_classes_one_is_clear_only_if_it_holds_up_among_all(pair: Pair) -> None:
    p_values, certainty = np.array(pair.p_values), np.array(pair.certainty)
    order, allowed = np.argsort(p_values), 0
    for rank, label in enumerate(order, 1):
        if p_values[label] <= 0.05 * rank / len(p_values):
            allowed = rank
    expected = np.where(p_values <= 0.05, "likely", "chance").astype(object)
    expected[order[:allowed]] = "clear"
    assert certainty.tolist() == expected.tolist()
    assert {"clear", "chance"} <= set(certainty)


def test_a_change_that_is_likely_alone_is_not_clear_among_many() -> None:
    targets = [0] * 6 + [label for label in range(1, 12) for _ in range(6)]
    after = list(targets)
    before = [11] * 6 + targets[6:]
    pair = compared(targets, before, after, counts=tuple(range(120, 108, -1))).pairs[0]
    assert pair.p_values[0] == pytest.approx(2 * 0.5**6)
    assert pair.certainty[0] == "likely"
    assert pair.counted(["likely"]) == (1, 0)
    assert pair.counted(["clear"]) == (0, 0)


def test_differences_are_those_of_the_scores(pair: Pair) -> None:
    for name, found in pair.by_score.items():
        expected = getattr(pair.other.scores, name) - getattr(pair.reference.scores, name)
        assert found.mean == pytest.approx(expected, abs=1e-6)
        assert found.low <= found.mean <= found.high


def test_the_interval_is_about_as_wide_as_theory_says(pair: Pair) -> None:
    before, after = pair.right
    step = (after.double() - before.double()) * 100
    spread = float(step.std()) / len(step) ** 0.5
    assert pair.overall.high - pair.overall.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_against_itself_nothing_changes() -> None:
    pair = together(predictions(0.3), predictions(0.3)).pairs[0]
    assert set(pair.gains) == {0.0}
    assert (pair.overall.mean, pair.overall.low, pair.overall.high, pair.overall.significant) == (0, 0, 0, False)
    assert pair.shifts == []
    assert pair.ranked(best=True) == pair.ranked(best=False) == []
    assert set(pair.certainty) == {"chance"}


def test_turned_round_gains_are_losses(pair: Pair) -> None:
    turned = Pair(pair.other, pair.reference, pair.classes)
    assert turned.gains == pytest.approx([-gain for gain in pair.gains])
    assert turned.certainty == pair.certainty
    assert turned.counted() == pair.counted()[::-1]
    assert sorted(turned.ranked(best=True)) == sorted(pair.ranked(best=False))


def test_classes_are_ranked_by_their_change_and_the_fullest_first_among_equals() -> None:
    comparison = compared([0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 2, 2], [0, 1, 1, 0, 1, 1])
    pair = comparison.pairs[0]
    assert pair.gains == (50.0, 50.0, -100.0)
    assert pair.ranked(best=True) == [0, 1]
    assert pair.ranked(best=False) == [2]


def test_shifts_by_hand() -> None:
    pair = compared([0, 0, 0, 0, 1, 1], [1, 1, 1, 2, 0, 1], [2, 2, 0, 2, 0, 1]).pairs[0]
    assert pair.shifts == [Shift(0, 1, 3, 0), Shift(0, 2, 1, 3)]
    assert [shift.change for shift in pair.shifts] == [-3, 2]
    assert pair.shifts_by_class == {0: [Shift(0, 1, 3, 0), Shift(0, 2, 1, 3)]}


def test_shifts_add_up_to_the_changes_of_accuracy(pair: Pair) -> None:
    for label, gain in enumerate(pair.gains):
        change = sum(shift.change for shift in pair.shifts if shift.true == label)
        assert -change == pytest.approx(gain * 20 / 100)


def test_examples_are_images_that_only_one_recognises_the_surest_first(pair: Pair) -> None:
    before, after = pair.right
    found = pair.examples(5, best=True)
    assert found
    assert all(after[index] and not before[index] for index in found)
    sure = [float(pair.other.predictions.logits[index].softmax(0).max()) for index in found]
    assert sure == sorted(sure, reverse=True)
    assert all(before[index] and not after[index] for index in pair.examples(0, best=False))


def test_without_logits_examples_come_in_the_order_of_the_test() -> None:
    pair = together(predictions(0.6, logits=False), predictions(-0.2, logits=False)).pairs[0]
    found = pair.examples(5, best=True)
    assert found == sorted(found)
    assert found
