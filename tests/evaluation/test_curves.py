"""Curves of one class against the others."""

import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from longtail.errors import InputError
from longtail.evaluation.curves import precision_recall, recall_at_false_alarm


def test_the_curve_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(300, generator=generator) * 40).round() / 40  # with ties
    positive = torch.rand(300, generator=generator) < scores
    curve = precision_recall(scores, positive)
    precision, recall, thresholds = precision_recall_curve(positive, scores.double())
    assert curve.thresholds.flip(0).tolist() == pytest.approx(thresholds)
    assert curve.precision.flip(0).tolist() == pytest.approx(precision[:-1])
    assert curve.recall.flip(0).tolist() == pytest.approx(recall[:-1])
    assert curve.average_precision == pytest.approx(average_precision_score(positive, scores))


@pytest.mark.parametrize(("rate", "recall"), [(0.0, 0.5), (0.49, 0.5), (0.5, 1.0), (1.0, 1.0)])
def test_recall_is_the_highest_within_the_rate(rate, recall):
    found = recall_at_false_alarm([0.9, 0.8, 0.7, 0.1], [1, 0, 1, 0], rate)
    assert found.recall == recall
    assert found.false_alarm <= rate


def test_no_threshold_may_keep_the_rate():
    found = recall_at_false_alarm([0.9, 0.8], [0, 1], 0.0)
    assert (found.threshold, found.recall, found.precision) == (float("inf"), 0.0, None)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="got 0 positive of 2"):
        precision_recall([0.1, 0.2], [0, 0])
    with pytest.raises(InputError, match=r"`rate` must be >= 0 and <= 1, got 2"):
        recall_at_false_alarm([0.1, 0.2], [0, 1], 2)
