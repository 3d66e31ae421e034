"""Estimates of a class prior: known mixtures, the likelihood, and the fixed point of the paper."""

import numpy as np
import pytest
import torch

from longtail.errors import InputError
from longtail.evaluation import abstention_threshold, adjust_to_prior, estimate_prior_bbse, estimate_prior_em

TRAIN = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
NEW = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]], dtype=torch.float64)


def draw(prior: torch.Tensor, number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw from three Gaussians; return the exact log posteriors under the training prior, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.multinomial(prior, number, replacement=True, generator=generator)
    points = MEANS[targets] + torch.randn(number, 2, generator=generator, dtype=torch.float64)
    return TRAIN.log() - 0.5 * torch.cdist(points, MEANS).square(), targets


def test_em_recovers_the_prior_of_a_calibrated_model():
    logits, _ = draw(NEW, 20_000, 0)
    torch.testing.assert_close(estimate_prior_em(logits, TRAIN), NEW, atol=0.02, rtol=0)


def test_em_maximizes_the_likelihood():
    logits, _ = draw(NEW, 500, 1)
    likelihood = logits.softmax(1) / TRAIN
    best = estimate_prior_em(logits, TRAIN, tolerance=1e-12)
    highest = (likelihood @ best).log().mean()
    for step in torch.eye(3, dtype=torch.float64):
        moved = 0.999 * best + 0.001 * step
        assert (likelihood @ moved).log().mean() <= highest + 1e-12


def test_em_equals_the_loop_of_the_paper():
    logits, _ = draw(NEW, 50, 2)
    posterior, prior = logits.softmax(1).numpy(), TRAIN.numpy().copy()
    for _ in range(20):  # Eq. 2.9, row by row
        rows = [p * prior / TRAIN.numpy() / (p * prior / TRAIN.numpy()).sum() for p in posterior]
        prior = np.mean(rows, axis=0)
    np.testing.assert_allclose(
        estimate_prior_em(logits, TRAIN, max_iterations=20, tolerance=1e-300).numpy(), prior, rtol=1e-12
    )


def test_bbse_recovers_the_prior_of_a_model_that_is_not_calibrated():
    held_out, targets = draw(TRAIN, 20_000, 3)
    logits, _ = draw(NEW, 20_000, 4)
    torch.testing.assert_close(estimate_prior_bbse(7 * logits, 7 * held_out, targets), NEW, atol=0.03, rtol=0)


def test_the_estimated_prior_raises_the_accuracy():
    logits, targets = draw(NEW, 5_000, 5)
    shifted = adjust_to_prior(logits, TRAIN, estimate_prior_em(logits, TRAIN))
    accuracies = [(each.argmax(1) == targets).double().mean() for each in (logits, shifted)]
    assert accuracies[1] > accuracies[0] + 0.05


def test_a_class_without_model_prior_or_held_out_example_gets_no_share():
    logits = torch.tensor([[2.0, 0.0, 1.0]])
    assert estimate_prior_em(logits, [0.5, 0.5, 0.0])[2] == 0
    assert estimate_prior_bbse(logits, torch.eye(3)[:2], torch.tensor([0, 1]))[2] == 0


def test_abstention_finds_the_largest_coverage_at_a_risk():
    confidence = torch.tensor([0.95, 0.9, 0.9, 0.8, 0.7, 0.6], dtype=torch.float64)
    probabilities = torch.stack([confidence, 1 - confidence], dim=1)
    targets = torch.tensor([0, 1, 0, 0, 0, 1])
    found = abstention_threshold(probabilities, targets, risk=0.25)
    assert (found.threshold, found.coverage, found.risk) == (0.7, 5 / 6, 0.2)
    ties = abstention_threshold(probabilities[:3], targets[:3], risk=0.0)
    assert (ties.threshold, ties.coverage) == (0.95, 1 / 3)  # the two ties at 0.9 stand or fall together


def test_abstention_without_an_allowed_answer():
    found = abstention_threshold(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), risk=0.1)
    assert found.threshold > 1
    assert found.coverage == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimate_prior_em(torch.ones(2), [0.5, 0.5]), "shape"),
        (lambda: estimate_prior_em(torch.full((1, 2), torch.nan), [0.5, 0.5]), "NaN"),
        (lambda: estimate_prior_em(torch.ones(1, 2), [0.5, 0.5], max_iterations=0), "max_iterations"),
        (lambda: estimate_prior_bbse(torch.eye(2)[[1]], torch.eye(2)[[0]], [0]), "held-out"),
        (lambda: abstention_threshold(torch.ones(1, 2), [0], risk=2), "risk"),
        (lambda: abstention_threshold(torch.ones(3, 2), [0], risk=0.5), "shape"),
    ],
)
def test_refused_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
