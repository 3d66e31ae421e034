"""Scores against scikit-learn, and test priors."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from longtail import InputError
from longtail.data import ClassCounts
from longtail.evaluation import (
    Scores,
    adjust_to_prior,
    evaluate_logits,
    evaluate_predictions,
    example_weights,
    long_tailed_prior,
)
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
    without = dict.fromkeys(("ece", "ece_many", "ece_medium", "ece_few", "top5"))
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


def test_from_dict_is_the_inverse_of_to_dict(long_tail: Example) -> None:
    for scores in (
        evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts),
        evaluate_predictions(torch.tensor([0, 1]), torch.tensor([0, 0]), [500, 5]),
    ):
        assert Scores.from_dict(scores.to_dict()) == scores
        assert Scores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores


def test_from_dict_accepts_results_of_older_and_newer_versions() -> None:
    scores = evaluate_predictions(torch.tensor([0, 1]), torch.tensor([0, 0]), [500, 5])
    assert Scores.from_dict({**scores.to_dict(), "of_the_future": [1]}) == scores
    older = Scores.from_dict(scores.summary())
    assert older.summary() == scores.summary()
    assert (older.ece_few, older.per_class) == (None, ())
    assert math.isnan(older.macro_f1)
    assert Scores.from_dict({"top1": 50}).top1 == 50.0


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (None, "a mapping with at least `top1`, got None"),
        ({}, "a mapping with at least `top1`, got {}"),
        ({"top1": "50"}, "`top1` of scores must be a number or null, got '50'"),
        ({"top1": True}, "`top1` of scores must be a number"),
        ({"top1": 1, "per_class": 3}, "`per_class` of scores must be a list, got 3"),
        ({"top1": 1, "per_class": ["a"]}, "`per_class` of scores must be a number or null, got 'a'"),
    ],
)
def test_from_dict_refuses_what_holds_no_scores(mapping: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scores.from_dict(mapping)


def test_lists_and_predicted_labels_are_scored_like_tensors(long_tail: Example) -> None:
    logits, targets, counts = long_tail.logits, long_tail.targets, long_tail.counts
    full = evaluate_logits(logits, targets, counts)
    assert evaluate_logits(logits.tolist(), targets.tolist(), counts.tolist()) == full
    hard = evaluate_predictions(long_tail.predicted, targets, counts)
    for predicted in (long_tail.predicted, long_tail.predicted.numpy(), long_tail.predicted.tolist()):
        assert evaluate_logits(predicted, targets, counts) == hard
    options = {"many": 50, "few": 10, "prior": [1.0] * 12}
    assert evaluate_logits(long_tail.predicted, targets, counts, **options) == evaluate_predictions(  # type: ignore[arg-type]
        long_tail.predicted,
        targets,
        counts,
        **options,  # type: ignore[arg-type]
    )


TWO = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (torch.zeros(2, 3), TWO, r"shape \(2, 2\), one row per target and one column per class count, got \(2, 3\)"),
        (torch.zeros(3, 2), TWO, r"got \(3, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int64), TWO, "floating point, got torch.int64; for predicted labels use shape"),
        (
            torch.tensor([[0, 1], [torch.nan, 1]]),
            TWO,
            r"example 1 \(counted from 0\): logits must not be NaN.*1 of 2 examples",
        ),
        (torch.tensor([[0, torch.inf], [0, 1]]), TWO, r"example 0 .*\+inf"),
        (torch.full((2, 2), -torch.inf), TWO, "not all -inf.*2 of 2"),
        (
            torch.zeros(2, 2),
            torch.tensor([0, 2]),
            "example 1 .*: targets of 2 classes must be in 0 to 1, got 2",
        ),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), "example 0 .* got -1"),
        (torch.zeros(2, 2), torch.eye(2), r"targets must have shape \(N,\), got \(2, 2\); for one-hot rows"),
        (torch.zeros(2, 2), torch.tensor([0.0, 1.0]), "targets must be integers"),
        (torch.zeros(0, 2), torch.empty(0, dtype=torch.int64), "nothing to evaluate: the targets are empty"),
        (torch.zeros(2, 2), np.array(["cat", "dog"]), "targets must be a tensor, array or list of numbers"),
    ],
)
def test_logits_that_cannot_be_scored_are_refused(logits: torch.Tensor, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_logits(logits, targets, [500, 5])


def test_predictions_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(InputError, match="3 predicted labels for 2 targets"):
        evaluate_predictions(torch.tensor([0, 1, 1]), TWO, [500, 5])
    with pytest.raises(InputError, match="predicted labels of 2 classes must be in 0 to 1, got 7"):
        evaluate_predictions(torch.tensor([0, 7]), TWO, [500, 5])
    with pytest.raises(InputError, match="at least two classes"):
        evaluate_predictions(TWO, TWO, [500])
    with pytest.raises(InputError, match="`few` must be at most `many`"):
        evaluate_predictions(TWO, TWO, [500, 5], many=10, few=20)


def test_prior_forward_prior_is_the_geometric_profile_of_lade() -> None:
    # calculate_prior of the authors' code, before its truncation to whole images
    shares = [50 * (1 / 25) ** (label / 9) for label in range(10)]
    expected = torch.tensor([share / sum(shares) for share in shares], dtype=torch.float64)
    torch.testing.assert_close(long_tailed_prior(10, 25), expected)


def test_prior_backward_prior_is_the_forward_one_reversed() -> None:
    torch.testing.assert_close(long_tailed_prior(7, 50, "backward"), long_tailed_prior(7, 50).flip(0))


def test_prior_the_prior_follows_the_order_of_the_training_counts() -> None:
    counts = torch.tensor([20, 500, 3, 20])
    forward = long_tailed_prior(counts, 8)
    assert forward.argsort(descending=True).tolist() == [1, 0, 3, 2]
    assert long_tailed_prior(ClassCounts(counts), 8, "backward").argsort(descending=True).tolist() == [2, 3, 0, 1]
    assert float(forward.max() / forward.min()) == pytest.approx(8)
    assert float(forward.sum()) == pytest.approx(1)


def test_prior_equal_counts_keep_the_order_of_the_classes() -> None:
    torch.testing.assert_close(long_tailed_prior([7] * 300, 8), long_tailed_prior(300, 8))


def test_prior_factor_one_is_the_uniform_prior() -> None:
    torch.testing.assert_close(long_tailed_prior(4, 1, "backward"), torch.full((4,), 0.25, dtype=torch.float64))


def test_prior_long_tailed_prior_refuses_what_makes_no_prior() -> None:
    with pytest.raises(InputError, match=r"must be >= 1, got 0\.5"):
        long_tailed_prior(10, 0.5)
    with pytest.raises(InputError, match="must be >= 1, got nan"):
        long_tailed_prior(10, float("nan"))
    with pytest.raises(InputError, match="at least two classes, got 1"):
        long_tailed_prior(1, 10)
    with pytest.raises(InputError, match="no direction 'foward'; did you mean forward"):
        long_tailed_prior(10, 10, "foward")  # type: ignore[arg-type]


def test_prior_weights_give_each_class_its_share() -> None:
    targets = torch.tensor([0, 0, 0, 1, 2, 2])
    weights = example_weights(targets, [0.2, 0.5, 0.3], 3)
    shares = torch.bincount(targets, weights) / weights.sum()
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))
    assert float(weights.mean()) == pytest.approx(1)


def test_prior_counts_serve_as_a_prior() -> None:
    targets = torch.tensor([0, 1, 1])
    torch.testing.assert_close(example_weights(targets, ClassCounts([30, 10]), 2), example_weights(targets, [3, 1], 2))


def test_prior_what_a_prior_gives_to_an_absent_class_goes_to_the_others_in_proportion() -> None:
    weights = example_weights(torch.tensor([0, 2]), [0.3, 0.6, 0.1], 3)
    torch.testing.assert_close(weights, torch.tensor([1.5, 0.5], dtype=torch.float64))


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([0.5, 0.5], r"one share per class, \(3,\), got \(2,\)"),
        ([0.5, 0.7, -0.2], "finite shares >= 0"),
        ([0.0, 0.0, 0.0], "not all zero"),
        ([0.5, float("nan"), 0.5], "finite shares >= 0"),
        ([0.0, 0.0, 1.0], "zero for every class that has a test image"),
        (["a", "b", "c"], "test prior must be a tensor, array or list of numbers"),
    ],
)
def test_prior_no_prior_is_refused(prior: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        example_weights(torch.tensor([0, 1]), prior, 3)


def test_prior_adjusting_equals_bayes_rule() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    model, test = torch.tensor([0.6, 0.2, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
    unnormalised = logits.softmax(1) * test.double() / model.double()
    expected = unnormalised / unnormalised.sum(1, keepdim=True)
    torch.testing.assert_close(adjust_to_prior(logits, model, test).softmax(1), expected, rtol=1e-6, atol=1e-7)


def test_prior_adjusting_to_the_models_own_prior_changes_nothing() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(adjust_to_prior(logits, [9, 1], [0.9, 0.1]), logits)


def test_prior_adjusting_there_and_back_changes_nothing() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    there = adjust_to_prior(logits, [0.9, 0.1], [0.5, 0.5])
    torch.testing.assert_close(adjust_to_prior(there, [0.5, 0.5], [0.9, 0.1]), logits)


def test_prior_a_class_that_the_test_never_has_is_ruled_out() -> None:
    adjusted = adjust_to_prior(torch.tensor([[9.0, 0.0, 9.0]]), [0.5, 0.5, 0.0], [0.0, 1.0, 0.0])
    assert adjusted.argmax(1).item() == 1
    assert adjusted[0, 0] == adjusted[0, 2] == -torch.inf


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_prior_adjusting_keeps_the_type(dtype: torch.dtype) -> None:
    assert adjust_to_prior(torch.zeros(1, 2, dtype=dtype), [0.9, 0.1], [0.5, 0.5]).dtype == dtype


def test_prior_adjusting_refuses() -> None:
    with pytest.raises(InputError, match="the model prior is 0 for class 1"):
        adjust_to_prior(torch.zeros(1, 2), [1.0, 0.0], [0.5, 0.5])
    with pytest.raises(InputError, match="the model prior must have one share per class"):
        adjust_to_prior(torch.zeros(1, 2), [1.0], [0.5, 0.5])
    with pytest.raises(InputError, match=r"shape \(N, C\), got torch\.int64 \(2,\)"):
        adjust_to_prior(torch.zeros(2, dtype=torch.int64), [0.5, 0.5], [0.5, 0.5])


def test_top5_agrees_with_scikit_learn_and_is_absent_without_logits_or_classes(long_tail: Example) -> None:
    scores = evaluate_logits(long_tail.logits, long_tail.targets, long_tail.counts)
    logits, targets = long_tail.logits.numpy(), long_tail.targets.numpy()
    expected = reference.top_k_accuracy_score(targets, logits, k=5, labels=range(logits.shape[1]))
    assert scores.top5 == pytest.approx(100 * expected)
    assert evaluate_predictions(long_tail.predicted, long_tail.targets, long_tail.counts).top5 is None
    assert evaluate_logits(torch.eye(5), torch.arange(5), [9] * 5).top5 is None
    assert evaluate_logits(torch.zeros(6, 6), torch.arange(6), [9] * 6).top5 == pytest.approx(100 * 5 / 6)
    weighted = evaluate_logits(torch.zeros(6, 6), torch.arange(6), [9] * 6, prior=[1, 1, 1, 1, 1, 5])
    assert weighted.top5 == pytest.approx(50)
    older = {name: value for name, value in scores.to_dict().items() if name != "top5"}
    assert Scores.from_dict(older) == dataclasses.replace(scores, top5=None)
