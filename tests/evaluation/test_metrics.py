"""Metrics against scikit-learn and NumPy."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from torch import Tensor

from longtail import InputError
from longtail.evaluation import confusion_matrix, shot_groups
from longtail.evaluation.metrics import (
    geometric_mean,
    macro_f1,
    matthews_correlation,
    mean_accuracy,
    normalized_mutual_information,
    per_class_accuracy,
    tally,
    top1_accuracy,
    worst_accuracy,
)
from tests.evaluation.conftest import Example

WEIGHTS = [None, torch.arange(600) % 4]  # a weight of 0 excludes the example


def expanded(values: Tensor, weights: Tensor | None) -> np.ndarray:
    """Repeat each value by its weight."""
    return (values if weights is None else values.repeat_interleave(weights)).numpy()


@pytest.mark.parametrize("weights", WEIGHTS, ids=["once", "weighted"])
class TestAgainstScikitLearn:
    def test_per_class_accuracy_is_recall(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = per_class_accuracy(tally(long_tail.predicted, long_tail.targets, 12, weights))
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        theirs = reference.recall_score(targets, predicted, labels=range(11), average=None)
        np.testing.assert_allclose(ours[:11], 100 * theirs, rtol=1e-12)
        assert math.isnan(ours[11])

    def test_top1(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = top1_accuracy(tally(long_tail.predicted, long_tail.targets, 12, weights))
        theirs = reference.accuracy_score(expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights))
        assert ours == pytest.approx(100 * theirs)

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_balanced_accuracy(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = mean_accuracy(per_class_accuracy(tally(long_tail.predicted, long_tail.targets, 12, weights)))
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        assert ours == pytest.approx(100 * reference.balanced_accuracy_score(targets, predicted))

    def test_macro_f1_counts_a_class_that_is_only_predicted(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = macro_f1(tally(long_tail.predicted, long_tail.targets, 12, weights))
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        theirs = reference.f1_score(targets, predicted, average="macro", zero_division=0)
        assert ours == pytest.approx(100 * theirs)
        assert (predicted == 11).any()

    def test_matthews_correlation(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = matthews_correlation(tally(long_tail.predicted, long_tail.targets, 12, weights))
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        assert ours == pytest.approx(100 * reference.matthews_corrcoef(targets, predicted))

    def test_normalized_mutual_information(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = normalized_mutual_information(long_tail.predicted, long_tail.targets, 12, weights)
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        assert ours == pytest.approx(100 * reference.normalized_mutual_info_score(targets, predicted))

    def test_geometric_mean(self, long_tail: Example, weights: Tensor | None) -> None:
        ours = geometric_mean(per_class_accuracy(tally(long_tail.predicted, long_tail.targets, 12, weights)))
        targets, predicted = expanded(long_tail.targets, weights), expanded(long_tail.predicted, weights)
        recalls = reference.recall_score(targets, predicted, labels=range(11), average=None)
        assert ours == pytest.approx(100 * math.prod(recalls) ** (1 / 11))
        assert ours > 0


def test_confusion_matrix_has_targets_as_rows(long_tail: Example) -> None:
    theirs = reference.confusion_matrix(long_tail.targets, long_tail.predicted, labels=range(12))
    np.testing.assert_array_equal(confusion_matrix(long_tail.predicted, long_tail.targets, 12), theirs)


def test_known_values() -> None:
    counts = tally(torch.tensor([0, 0, 0, 1, 0, 2]), torch.tensor([0, 0, 0, 1, 1, 1]), 4)
    per_class = per_class_accuracy(counts)
    assert per_class[:2].tolist() == [100.0, pytest.approx(100 / 3)]
    assert worst_accuracy(per_class) == pytest.approx(100 / 3)
    assert geometric_mean(per_class) == pytest.approx(100 * (1 / 3) ** 0.5)
    assert top1_accuracy(counts) == pytest.approx(100 * 4 / 6)
    # F1: 2*3/(3+4), 2*1/(3+1), and 0 for class 2, which is only predicted; class 3 does not occur
    assert macro_f1(counts) == pytest.approx(100 * (6 / 7 + 1 / 2 + 0) / 3)


def test_group_accuracy_is_the_mean_over_classes_not_over_images() -> None:
    targets = torch.tensor([0] * 9 + [1])
    per_class = per_class_accuracy(tally(torch.zeros(10, dtype=torch.int64), targets, 3))
    assert mean_accuracy(per_class, torch.tensor([True, True, False])) == 50.0


def test_a_group_without_a_test_image_has_no_accuracy() -> None:
    per_class = torch.tensor([50.0, torch.nan])
    assert mean_accuracy(per_class, torch.tensor([False, True])) is None
    assert mean_accuracy(per_class, torch.tensor([False, False])) is None


def test_one_missed_class_makes_the_geometric_mean_zero() -> None:
    assert geometric_mean(torch.tensor([100.0, 0.0, 90.0])) == 0.0


@pytest.mark.parametrize("weights", [None, torch.full((4,), 1 / 3)])
def test_a_constant_prediction_has_no_correlation_and_no_information(weights: Tensor | None) -> None:
    predicted, targets = torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1, 2, 0])
    assert matthews_correlation(tally(predicted, targets, 3, weights)) == 0.0
    assert normalized_mutual_information(predicted, targets, 3, weights) == pytest.approx(0.0)


def test_perfect_and_opposite_predictions() -> None:
    targets = torch.tensor([0, 1, 0, 1])
    assert matthews_correlation(tally(targets, targets, 2)) == pytest.approx(100)
    assert matthews_correlation(tally(1 - targets, targets, 2)) == pytest.approx(-100)
    assert normalized_mutual_information(1 - targets, targets, 2) == pytest.approx(100)


def test_one_class_on_both_sides_is_full_agreement_for_nmi() -> None:
    ones = torch.ones(3, dtype=torch.int64)
    assert normalized_mutual_information(ones, ones, 2) == 100.0
    assert reference.normalized_mutual_info_score(ones, ones) == 1.0


def test_groups_by_limits_and_by_thirds() -> None:
    counts = [101, 100, 20, 19, 5, 1]
    fixed = shot_groups(counts)
    assert [int(fixed[name].sum()) for name in ("many", "medium", "few")] == [1, 2, 3]
    assert shot_groups(counts, many=10, few=5)["many"].sum() == 4
    thirds = shot_groups(counts, groups="quantile")
    assert [int(thirds[name].sum()) for name in ("many", "medium", "few")] == [2, 2, 2]


def test_unknown_groups_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="no kind of groups 'quantiles'; did you mean quantile"):
        shot_groups([5, 1], groups="quantiles")  # type: ignore[arg-type]
