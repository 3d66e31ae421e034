"""Solved heads against scikit-learn, their invariances, and their statistics."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as F

from longtail import losses
from longtail.training import convex
from longtail.training.convex import Features, solve, standardize


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    kept = np.flatnonzero((labels < 5) & (np.arange(len(labels)) % (1 + labels) == 0))  # long-tailed
    return torch.from_numpy(pixels[kept]), torch.from_numpy(labels[kept])


def counts(targets: torch.Tensor) -> torch.Tensor:
    return torch.bincount(targets)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_optimum_is_that_of_scikit_learn(digits, class_weight):
    features, targets = digits
    name = "CrossEntropy" if class_weight is None else "WeightedCrossEntropy"
    l2 = 0.01
    found = standardize(features)
    solution = solve(found, targets, getattr(losses, name)(counts(targets)), l2, tolerance=1e-7)
    assert solution.converged
    scaled = StandardScaler().fit_transform(features.numpy())
    theirs = LogisticRegression(C=1 / (len(targets) * l2), class_weight=class_weight, tol=1e-9, max_iter=5000)
    theirs.fit(scaled, targets.numpy())
    ours = found.head(solution.weight_CR, solution.bias_C)(features.float()).detach().softmax(dim=1)
    assert np.allclose(ours.numpy(), theirs.predict_proba(scaled), atol=2e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("BalancedSoftmax", {}),
        ("LogitAdjustedLoss", {"tau": 0.5}),
        ("VSLoss", {}),
        ("BalancedSigmoid", {}),
        ("LabelAwareSmoothing", {}),
        ("ClassBalancedLoss", {"kind": "sigmoid"}),
    ],
)
def test_the_gradient_by_automatic_differentiation_vanishes(digits, name, options):
    features, targets = digits
    found, loss = standardize(features), getattr(losses, name)(counts(targets), **options)
    solution = solve(found, targets, loss, 0.01, tolerance=1e-7)
    weight, bias = solution.weight_CR.clone().requires_grad_(), solution.bias_C.clone().requires_grad_()
    objective = loss(found.values_NR @ weight.T + bias, targets) + 0.005 * weight.square().sum()
    objective.backward()
    assert abs(objective.item() - solution.value) < 1e-9
    assert max(float(weight.grad.abs().max()), float(bias.grad.abs().max())) < 1e-6


def test_scale_shift_and_order_of_the_features_do_not_change_the_predictions(digits):
    features, targets = digits
    loss, factors = losses.BalancedSoftmax(counts(targets)), torch.logspace(-3, 3, features.shape[1])

    def logits(given: torch.Tensor, labels: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
        found = standardize(given)
        solution = solve(found, labels, loss, 0.01, tolerance=1e-7)
        weight, bias = solution.weight_CR, solution.bias_C
        return found.transform(shown) @ weight.T + bias

    plain = logits(features, targets, features)
    assert torch.allclose(plain, logits(features * factors + 100, targets, features * factors + 100), atol=1e-3)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(plain, logits(features[order], targets[order], features), atol=1e-3)


def test_more_features_than_examples_are_reduced_without_loss(digits):
    features, targets = digits[0][::9], digits[1][::9]
    wide = torch.cat([features, features.square(), features.sqrt(), torch.ones(len(features), 1)], dim=1)
    loss = losses.CrossEntropy(counts(targets))
    reduced = standardize(wide)
    assert reduced.values_NR.shape[1] < len(wide) < wide.shape[1]
    solution = solve(reduced, targets, loss, 0.01, tolerance=1e-7)
    values = reduced.transform(wide) @ reduced.span_DR.T  # the original standardized features
    dim = values.shape[1]
    whole = Features(values, reduced.mean_D, reduced.std_D, torch.eye(dim).double(), torch.ones(dim).double())
    assert abs(solution.value - solve(whole, targets, loss, 0.01, tolerance=1e-7).value) < 1e-9
    head = reduced.head(solution.weight_CR, solution.bias_C)
    expected = reduced.values_NR @ solution.weight_CR.T + solution.bias_C
    assert torch.allclose(head(wide.float()).double(), expected, atol=1e-4)


def test_chunks_and_float32_give_the_same_optimum(digits, monkeypatch):
    features, targets = digits
    loss = losses.BalancedSoftmax(counts(targets))
    whole = solve(standardize(features), targets, loss, 0.01)
    monkeypatch.setattr(convex, "CHUNK_LOGITS", 1000)
    monkeypatch.setattr(convex, "CHUNK_FEATURES", 20_000)  # below the size of the data, so float32
    found = standardize(features.half())
    assert found.values_NR.dtype == torch.float32
    assert abs(solve(found, targets, loss, 0.01).value - whole.value) < 1e-5


def test_class_weights_multiply_the_losses(digits):
    features, targets = digits
    weights = losses.WeightedCrossEntropy(counts(targets)).weights_C
    found = standardize(features)
    first = solve(found, targets, losses.WeightedCrossEntropy(counts(targets)), 0.1, tolerance=1e-7)
    second = solve(found, targets, losses.CrossEntropy(counts(targets)), 0.1, weights_C=weights, tolerance=1e-7)
    assert torch.allclose(first.weight_CR, second.weight_CR, atol=1e-5)


def test_two_solutions_have_the_same_bits(digits):
    features, targets = digits
    loss = losses.CrossEntropy(counts(targets))
    first, second = (solve(standardize(features), targets, loss, 0.1) for _ in range(2))
    assert torch.equal(first.weight_CR, second.weight_CR)


def test_constant_features_and_large_means_are_handled():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 3, generator=generator, dtype=torch.float64) + torch.tensor([1e4, 0.0, 0.0])
    features[:, 2] = 0.1  # not exact in binary
    found = standardize(features)
    assert found.std_D[2] == 1
    assert torch.allclose(found.values_NR.mean(dim=0), torch.zeros(3).double(), atol=1e-9)
    targets = (features[:, 0] > 1e4).long()
    solution = solve(found, targets, losses.CrossEntropy(counts(targets)), 0.1)
    head = found.head(solution.weight_CR, solution.bias_C)
    assert float(head.weight[:, 2].detach().abs().max()) < 1e-6


def test_a_reduction_of_the_loss_is_ignored_and_kept():
    loss = losses.CrossEntropy([2, 1], reduction="sum")
    logits, targets = torch.zeros(3, 2), torch.tensor([0, 0, 1])
    assert torch.allclose(convex.losses_of(loss, logits, targets), F.cross_entropy(logits, targets, reduction="none"))
    assert loss.reduction == "sum"


def test_balanced_softmax_solved_is_cross_entropy_with_post_hoc_logit_adjustment(digits):
    features, targets = digits
    found, prior = standardize(features), counts(targets).double() / len(targets)
    plain = solve(found, targets, losses.CrossEntropy(counts(targets)), 0.01, tolerance=1e-7)
    balanced = solve(found, targets, losses.BalancedSoftmax(counts(targets)), 0.01, tolerance=1e-7)
    assert torch.allclose(plain.weight_CR, balanced.weight_CR, atol=1e-4)
    shift = plain.bias_C - prior.log() - balanced.bias_C
    assert torch.allclose(shift, shift.mean().expand(5), atol=1e-3)
