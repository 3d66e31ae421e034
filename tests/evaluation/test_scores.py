import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from longtail import InputError
from longtail.data import ClassCounts
from longtail.evaluation import Scores, evaluate_logits, evaluate_predictions, long_tailed_prior
from tests.evaluation.conftest import Example


def assert_same(ours: Scores, theirs: Scores) -> None:
    for name, value in theirs.to_dict().items():
        assert getattr(ours, name) == pytest.approx(tuple(value) if isinstance(value, list) else value, nan_ok=False), (
            name
        )


def test_scores_agree_with_scikit_learn(long_tail: Example) -> None:
    scores = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts)
    targets, predicted = long_tail.targets.numpy(), long_tail.predicted.numpy()
    recalls = 100 * reference.recall_score(targets, predicted, labels=range(11), average=None)
    counts = long_tail.counts[:11].numpy()
    assert scores.top1 == pytest.approx(100 * reference.accuracy_score(targets, predicted))
    assert scores.balanced == pytest.approx(recalls.mean())
    assert scores.many == pytest.approx(recalls[counts > 100].mean())
    assert scores.medium == pytest.approx(recalls[(counts >= 20) & (counts <= 100)].mean())
    assert scores.few == pytest.approx(recalls[counts < 20].mean())
    assert scores.mcc == pytest.approx(100 * reference.matthews_corrcoef(targets, predicted))
    assert scores.nmi == pytest.approx(100 * reference.normalized_mutual_info_score(targets, predicted))
    assert scores.macro_f1 == pytest.approx(100 * reference.f1_score(targets, predicted, average="macro"))
    assert scores.worst == pytest.approx(recalls.min())
    assert scores.per_class[:11] == pytest.approx(tuple(recalls))
    assert scores.per_class[11] is None


def test_known_values() -> None:
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf], [0.0, 0.0, -torch.inf], [0.0, -torch.inf, -torch.inf]])
    scores = evaluate_logits(logits, torch.tensor([0, 0, 2]), [500, 50, 5])
    assert (scores.top1, scores.balanced) == (pytest.approx(200 / 3), 50.0)
    assert (scores.many, scores.medium, scores.few) == (100.0, None, 0.0)
    # confidences 1, 0.5, 1, the first two right: gaps |1/2 - 1| * 2/3 and |1 - 1/2| * 1/3
    assert scores.ece == pytest.approx(50.0)
    assert scores.ece_many == pytest.approx(25.0)
    assert scores.ece_medium is None
    assert scores.ece_few == pytest.approx(100.0)
    assert (scores.g_mean, scores.worst) == (0.0, 0.0)
    assert scores.per_class == (100.0, None, 0.0)


def test_labels_alone_give_the_same_scores_without_calibration(long_tail: Example) -> None:
    full = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts)
    labels_only = evaluate_predictions(long_tail.predicted, long_tail.targets, long_tail.counts)
    without = dict.fromkeys(("ece", "ece_many", "ece_medium", "ece_few"))
    assert labels_only == dataclasses.replace(full, **without)


def test_the_tests_own_prior_changes_nothing(long_tail: Example) -> None:
    own = torch.bincount(long_tail.targets, minlength=12) / len(long_tail.targets)
    weighted = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts, prior=own)
    assert_same(weighted, evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts))


@pytest.mark.parametrize("repeats", [[5, 4, 3, 2, 1, 1, 1, 2, 3, 4, 5, 0], [1, 0, 2, 0, 0, 3, 1, 1, 1, 1, 1, 7]])
def test_a_prior_equals_a_resampled_test_set(long_tail: Example, repeats: list[int]) -> None:
    chosen = torch.arange(600).repeat_interleave(torch.tensor(repeats)[long_tail.targets])
    resampled = long_tail.targets[chosen]
    prior = torch.bincount(resampled, minlength=12).double()
    weighted = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts, prior=prior)
    assert_same(weighted, evaluate_logits(long_tail.logits[chosen], resampled, long_tail.counts))


def test_a_uniform_prior_makes_top1_the_balanced_accuracy(long_tail: Example) -> None:
    scores = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts, prior=torch.ones(12))
    assert scores.top1 == pytest.approx(scores.balanced)


def test_a_prior_that_favours_what_the_model_favours_scores_higher(long_tail: Example) -> None:
    forward, backward = (
        evaluate_logits(
            long_tail.logits,
            long_tail.targets,
            long_tail.counts,
            prior=long_tailed_prior(long_tail.counts, 50, direction),
        )
        for direction in ("forward", "backward")
    )
    assert forward.top1 > backward.top1
    assert forward.balanced == pytest.approx(backward.balanced)


def test_permuting_classes_permutes_the_per_class_scores_and_no_other(long_tail: Example) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    moved = evaluate_logits(long_tail.logits[:, order], order.argsort()[long_tail.targets], long_tail.counts[order])
    plain = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts)
    per_class = tuple(plain.per_class[label] for label in order.tolist())
    assert_same(moved, dataclasses.replace(plain, per_class=per_class))


def test_limits_and_thirds_move_the_groups(long_tail: Example) -> None:
    everything = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts, many=4, few=1)
    assert (everything.many, everything.medium, everything.few) == (everything.balanced, None, None)
    assert everything.ece_many == everything.ece
    thirds = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts, groups="quantile")
    assert thirds.many == pytest.approx(np.mean(thirds.per_class[:4]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_floating_type(long_tail: Example, dtype: torch.dtype) -> None:
    logits = long_tail.logits.to(dtype)
    scores = evaluate_logits(logits, long_tail.targets, long_tail.counts)
    assert_same(scores, evaluate_logits(logits.float(), long_tail.targets, long_tail.counts))


def test_numpy_arrays_and_every_form_of_counts(long_tail: Example) -> None:
    plain = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts)
    arrays = long_tail.logits.numpy(), long_tail.targets.numpy()
    assert evaluate_logits(*arrays, ClassCounts(long_tail.counts)) == plain
    assert evaluate_logits(*arrays, long_tail.counts.tolist()) == plain


def test_to_dict_is_json_and_summary_has_the_eight_of_a_result() -> None:
    scores = evaluate_predictions(torch.tensor([0, 1]), torch.tensor([0, 0]), [500, 5])
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict()
    assert scores.to_dict()["per_class"] == [50.0, None]
    assert list(scores.summary()) == ["top1", "balanced", "many", "medium", "few", "mcc", "nmi", "ece"]
    assert scores.summary()["few"] is None


TWO = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(2, 3), TWO, r"shape \(2, 2\), one row per target and one column per class count, not \(2, 3\)"),
        (torch.zeros(3, 2), TWO, r"not \(3, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int64), TWO, "floating point, not torch.int64; use evaluate_predictions"),
        (torch.tensor([[0, 1], [torch.nan, 1]]), TWO, r"example 1 \(counted from 0\): a logit is NaN.*1 of 2 examples"),
        (torch.tensor([[0, torch.inf], [0, 1]]), TWO, r"example 0 .*\+inf"),
        (torch.full((2, 2), -torch.inf), TWO, "all are -inf.*2 of 2"),
        (
            torch.zeros(2, 2),
            torch.tensor([0, 2]),
            "example 1 .*: 2 is out of range: the targets of 2 classes start at 0",
        ),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), "example 0 .*: -1 is out of range"),
        (torch.zeros(2, 2), torch.eye(2), r"targets must have shape \(N,\), not \(2, 2\); of one-hot rows"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "whole numbers"),
        (torch.zeros(0, 2), torch.empty(0, dtype=torch.int64), "nothing to evaluate: the targets are empty"),
        (torch.zeros(2, 2), np.array(["cat", "dog"]), "targets must be a tensor or array of numbers"),
    ],
)
def test_logits_that_cannot_be_scored_are_refused(logits: torch.Tensor, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_logits(logits, targets, [500, 5])


def test_predictions_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(InputError, match="3 predicted labels for 2 targets"):
        evaluate_predictions(torch.tensor([0, 1, 1]), TWO, [500, 5])
    with pytest.raises(InputError, match="7 is out of range: the predicted labels of 2 classes"):
        evaluate_predictions(torch.tensor([0, 7]), TWO, [500, 5])
    with pytest.raises(InputError, match="at least two classes"):
        evaluate_predictions(TWO, TWO, [500])
    with pytest.raises(InputError, match="must not exceed"):
        evaluate_predictions(TWO, TWO, [500, 5], many=10, few=20)
