"""Calibration against slow loops and scikit-learn."""

import math

import pytest
import torch
from sklearn.preprocessing import label_binarize
from torch import Tensor

from longtail import InputError
from longtail.evaluation import brier_score, confidences, reliability, reliability_by_group, shot_groups
from tests.evaluation.conftest import Example


def slow_ece(confidence: list[float], correct: list[bool], weights: list[float], bins: int) -> float:
    """Compute equations 2 to 5 of Guo et al. (2017), one example at a time."""
    total, error = sum(weights), 0.0
    for k in range(bins):
        inside = [i for i, c in enumerate(confidence) if k / bins < c <= (k + 1) / bins]
        mass = sum(weights[i] for i in inside)
        if mass:
            accuracy = sum(weights[i] * correct[i] for i in inside) / mass
            mean_confidence = sum(weights[i] * confidence[i] for i in inside) / mass
            error += mass / total * abs(accuracy - mean_confidence)
    return 100 * error


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("weights", [None, torch.arange(600) % 4])
def test_ece_equals_the_slow_loop(long_tail: Example, bins: int, weights: Tensor | None) -> None:
    confidence, predicted = confidences(long_tail.logits)
    correct = predicted == long_tail.targets
    ours = reliability(confidence, correct, bins=bins, weights_N=weights).ece
    plain = [1.0] * 600 if weights is None else weights.double().tolist()
    assert ours == pytest.approx(slow_ece(confidence.tolist(), correct.tolist(), plain, bins), rel=1e-9)


def test_confidence_is_the_highest_softmax_probability(long_tail: Example) -> None:
    confidence, predicted = confidences(long_tail.logits)
    expected = long_tail.logits.double().softmax(1).max(1)
    torch.testing.assert_close(confidence, expected.values, rtol=1e-6, atol=1e-7)
    assert torch.equal(predicted, expected.indices)


def test_half_precision_logits_are_summed_in_single_precision() -> None:
    logits = torch.zeros(1, 3000, dtype=torch.float16)
    assert confidences(logits)[0].item() == pytest.approx(1 / 3000, rel=1e-5)


def test_a_bin_holds_its_upper_edge_and_the_first_also_zero() -> None:
    bins = reliability(torch.tensor([0.0, 0.5, 0.500001, 1.0]), torch.tensor([True] * 4), bins=2)
    assert bins.count.tolist() == [2, 2]


def test_known_bins() -> None:
    bins = reliability(torch.tensor([0.25, 0.875, 0.625]), torch.tensor([True, False, True]), bins=2)
    assert bins.confidence.tolist() == [25.0, 75.0]
    assert bins.accuracy.tolist() == [100.0, 50.0]
    assert bins.ece == pytest.approx((75 * 1 + 25 * 2) / 3)


def test_an_empty_bin_is_not_a_number_and_costs_nothing() -> None:
    bins = reliability(torch.tensor([1.0]), torch.tensor([True]), bins=3)
    assert [math.isnan(value) for value in bins.accuracy.tolist()] == [True, True, False]
    assert bins.ece == 0.0


def test_no_examples_no_ece() -> None:
    assert reliability(torch.empty(0), torch.empty(0, dtype=torch.bool)).ece is None


def test_at_least_one_bin() -> None:
    with pytest.raises(InputError, match="`bins` must be >= 1, got 0"):
        reliability(torch.tensor([1.0]), torch.tensor([True]), bins=0)


def test_groups_are_of_the_true_class_and_add_up(long_tail: Example) -> None:
    confidence, predicted = confidences(long_tail.logits)
    correct, groups = predicted == long_tail.targets, shot_groups(long_tail.counts)
    found = reliability_by_group(confidence, correct, long_tail.targets, groups)
    few = groups["few"][long_tail.targets]
    assert found["few"].ece == reliability(confidence[few], correct[few]).ece
    assert 0 < int(found["few"].count.sum()) == int(few.sum())
    parts = torch.stack([found[name].count for name in ("many", "medium", "few")]).sum(0)
    assert torch.equal(parts, found["all"].count)


@pytest.mark.parametrize("weights", [None, torch.arange(600) % 4])
def test_brier_score_is_the_squared_distance(long_tail: Example, weights: Tensor | None) -> None:
    one_hot = torch.from_numpy(label_binarize(long_tail.targets.numpy(), classes=range(12)))
    distance = ((long_tail.logits.double().softmax(1) - one_hot) ** 2).sum(1)
    plain = torch.ones(600) if weights is None else weights
    expected = float((distance * plain).sum() / plain.sum())
    assert brier_score(long_tail.logits, long_tail.targets, weights) == pytest.approx(expected, rel=1e-5)


def test_brier_score_of_certainty() -> None:
    certain = torch.tensor([[50.0, -torch.inf], [50.0, -torch.inf]])
    assert brier_score(certain, torch.tensor([0, 0])) == pytest.approx(0)
    assert brier_score(certain, torch.tensor([1, 1])) == pytest.approx(2)
