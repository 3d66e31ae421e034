"""Logit adjustment against its formula and the claims of its paper."""

import math

import pytest
import torch

from longtail.component import Component
from longtail.errors import InputError
from longtail.models.heads import LinearHead
from longtail.posthoc import LogitAdjustment, adjust_logits
from tests.posthoc.conftest import COUNTS


def test_every_logit_loses_tau_times_its_log_prior():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    priors = [n / sum(COUNTS) for n in COUNTS]
    expected = [[z - 0.7 * math.log(p) for z, p in zip(row, priors, strict=True)] for row in logits.double().tolist()]
    torch.testing.assert_close(adjust_logits(logits, COUNTS, tau=0.7), torch.tensor(expected).float())


def test_the_head_gives_the_adjusted_logits_and_is_linear(world):
    fitted = LogitAdjustment(tau=0.7).fit(world.features, world.targets, world.head, COUNTS)
    expected = adjust_logits(world.head(world.features), COUNTS, tau=0.7)
    torch.testing.assert_close(fitted.predict_logits(world.features), expected)
    assert (type(fitted.head), fitted.component) == (LinearHead, Component("LinearHead"))


def test_equal_counts_change_no_prediction(world):
    before = world.head(world.features).softmax(dim=1)
    fitted = LogitAdjustment(tau=1.0).fit(world.features, world.targets, world.head, [7, 7, 7])
    torch.testing.assert_close(fitted.predict_logits(world.features).softmax(dim=1), before)


def test_tau_of_one_makes_the_bayes_optimal_net_optimal_for_a_balanced_test(world):
    fitted = LogitAdjustment(tau=1.0).fit(world.features, world.targets, world.head, COUNTS)
    means = world.head.weight
    nearest = torch.cdist(world.features, means).argmin(dim=1)
    assert torch.equal(fitted.predict_logits(world.features).argmax(dim=1), nearest)


def test_the_chosen_tau_has_the_best_balanced_accuracy_of_all(world):
    fitted = LogitAdjustment().fit(world.features, world.targets, world.head, COUNTS)
    assert fitted.needs_holdout
    tau = fitted.chosen["tau"]
    logits = world.head(world.features)

    def balanced(strength: float) -> float:
        right = adjust_logits(logits, COUNTS, strength).argmax(dim=1) == world.targets
        return sum(float(right[world.targets == c].double().mean()) for c in range(3)) / 3

    assert balanced(tau) == pytest.approx(max(balanced(step / 20) for step in range(41)))
    assert 0.5 < tau < 1.5


def test_a_given_tau_is_no_choice(world):
    fitted = LogitAdjustment(tau=1.0).fit(world.features[:0], world.targets[:0], world.head, COUNTS)
    assert not fitted.needs_holdout
    assert fitted.chosen == {}


def test_a_head_without_bias_gets_one(world):
    bare = torch.nn.Linear(3, 3, bias=False)
    fitted = LogitAdjustment(tau=1.0).fit(world.features, world.targets, bare, COUNTS)
    torch.testing.assert_close(fitted.predict_logits(world.features), adjust_logits(bare(world.features), COUNTS))


def test_what_can_not_be_adjusted_is_refused(world):
    with pytest.raises(InputError, match=r"(?s)1 classes have no training image.*\n  1\n"):
        adjust_logits(torch.zeros(1, 3), [4, 0, 2])
    with pytest.raises(InputError, match="`class_counts` must have 3 counts, as the head has, got 2"):
        LogitAdjustment(tau=1.0).fit(world.features, world.targets, world.head, [4, 2])
    with pytest.raises(InputError, match="cannot choose `tau` without held-out examples"):
        LogitAdjustment().fit(world.features[:0], world.targets[:0], world.head, COUNTS)
    with pytest.raises(InputError, match="`tau` must be >= 0"):
        LogitAdjustment(tau=-1.0)
