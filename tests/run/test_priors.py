"""Priors of a run: what the model assumes, and the shift to the prior of its use."""

import pytest
import torch

from longtail.component import Component
from longtail.config import recipes
from longtail.data.counts import ClassCounts
from longtail.errors import InputError
from longtail.run.fit import fit
from longtail.run.priors import model_prior, named_prior, to_prior

COUNTS, NAMES = ClassCounts([6, 3, 1]), ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    ("method", "balanced"),
    [
        ("ce", False),
        ("balanced-softmax", True),
        ("crt", True),
        ("la-posthoc", True),
        ("balms", True),
        ("dlsa", True),
        ("risda", True),
        ("mixup", False),
        ("elm", True),
    ],
)
def test_the_prior_of_a_method(method, balanced):
    stages = recipes.compose("digits-lt", method).stages
    expected = torch.full((3,), 1 / 3) if balanced else torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(model_prior(stages, COUNTS), expected.double())


def test_plain_training_after_a_balanced_stage_counts_as_plain():
    stages = recipes.compose("digits-lt", "ce").stages
    assert not stages[-1].balances()
    assert Component("CrossEntropy") == stages[-1].loss


def test_names_and_files_of_priors(tmp_path):
    torch.testing.assert_close(named_prior("uniform", COUNTS, NAMES), torch.full((3,), 1 / 3).double())
    torch.testing.assert_close(named_prior("train", COUNTS, NAMES), torch.tensor([0.6, 0.3, 0.1]).double())
    file = tmp_path / "counts.csv"
    file.write_text("class,count\nowl,30\ncat,10\n")
    torch.testing.assert_close(named_prior(file, COUNTS, NAMES), torch.tensor([0.25, 0, 0.75]).double())


def test_bayes_rule_by_hand():
    shifted, prior = to_prior(
        torch.tensor([[0.8, 0.1, 0.1]]), COUNTS.prior.double(), {"dog": 3, "owl": 1}, COUNTS, NAMES
    )
    # p(k | x) ~ p_train(k | x) q_k / pi_k: cat 0, dog .1 * .75 / .3, owl .1 * .25 / .1
    torch.testing.assert_close(shifted, torch.tensor([[0.0, 0.5, 0.5]]))
    torch.testing.assert_close(prior, torch.tensor([0, 0.75, 0.25]).double())


def test_the_own_prior_changes_nothing():
    probabilities = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    shifted, _ = to_prior(probabilities, COUNTS.prior.double(), "train", COUNTS, NAMES)
    torch.testing.assert_close(shifted, probabilities)


@pytest.mark.parametrize("wanted", ["evn", "forward-x", "forward-²", {"bird": 1.0}, [0.5, 0.5], [0.5, -0.1, 0.6]])
def test_refused_priors(wanted):
    with pytest.raises(InputError):
        to_prior(torch.full((1, 3), 1 / 3), COUNTS.prior.double(), wanted, COUNTS, NAMES)


def test_run_predict_under_another_prior(tmp_path):
    config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 1}}])
    run = fit(config, tmp_path / "run", report=False)
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    plain, shifted = run.predict(image), run.predict(image, test_prior="uniform")
    expected = plain.probabilities.double() / run.model_prior
    torch.testing.assert_close(shifted.probabilities.double(), expected / expected.sum(), atol=1e-6, rtol=1e-5)
    assert plain.prior is None
    assert shifted.prior is not None
    estimated = run.predict([image, image], test_prior="estimate")
    assert float(estimated.prior.sum()) == pytest.approx(1.0)
