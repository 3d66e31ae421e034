"""Training of one classifier against gradient descent written out, and its refusals."""

import pytest
import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.posthoc.dlsa import ClassifierSettings, fit_classifier

TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 0])
COUNTS = [4, 2, 1]


def inputs() -> Tensor:
    return torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def fresh() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 3)


def slow_fit(epochs: int, batch: int, lr: float) -> tuple[Tensor, Tensor, float]:
    """Balanced Softmax by its gradient, (p - y) x, in float64; the mean loss of the last epoch."""
    start = fresh()
    weight, bias = start.weight.detach().double(), start.bias.detach().double()
    shift, x = torch.tensor(COUNTS, dtype=torch.float64).log(), inputs().double()
    for epoch in range(epochs):
        order = torch.randperm(7, generator=randomness.generator("order", "x", 1, epoch)).tolist()
        total = 0.0
        for first in range(0, 7, batch):
            rows = order[first : first + batch]
            grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
            for row in rows:
                p = (weight @ x[row] + bias + shift).softmax(dim=0)
                total -= float(p[TARGETS[row]].log())
                residual = p - torch.eye(3, dtype=torch.float64)[TARGETS[row]]
                grad_weight += residual[:, None] * x[row] / len(rows)
                grad_bias += residual / len(rows)
            weight, bias = weight - lr * grad_weight, bias - lr * grad_bias
    return weight, bias, total / 7


@pytest.mark.parametrize("batch", [3, 7, 100])
def test_it_is_plain_gradient_descent(batch):
    classifier, loss = fresh(), BalancedSoftmax(COUNTS)
    settings = ClassifierSettings(epochs=3, batch_size=batch, lr=0.5)
    mean = fit_classifier(classifier, inputs().__getitem__, TARGETS, loss, settings, "x", 1)
    weight, bias, expected = slow_fit(3, batch, 0.5)
    torch.testing.assert_close(classifier.weight.detach(), weight.float())
    torch.testing.assert_close(classifier.bias.detach(), bias.float())
    assert mean == pytest.approx(expected, rel=1e-5)


def test_the_order_is_the_seeds_alone():
    settings, weights = ClassifierSettings(epochs=2, batch_size=2, lr=0.5), []
    for seed in (1, 1, 2):
        torch.rand(3)
        classifier = fresh()
        fit_classifier(classifier, inputs().__getitem__, TARGETS, BalancedSoftmax(COUNTS), settings, "x", seed)
        weights.append(classifier.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_it_can_be_stopped_after_each_epoch():
    calls = []

    def stop() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_classifier(
            fresh(), inputs().__getitem__, TARGETS, CrossEntropy(COUNTS), ClassifierSettings(), "x", on_epoch=stop
        )
    assert calls == [0, 1]


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="a classifier needs epochs >= 1, batch_size >= 1 and lr > 0, not"):
        ClassifierSettings(**options)


def test_a_training_that_diverges_is_refused():
    settings = ClassifierSettings(epochs=9, lr=1e38)
    with pytest.raises(
        InputError, match=r"no longer finite in epoch \d of 9; give a lower learning rate than lr 1e\+38"
    ):
        fit_classifier(fresh(), (1e3 * inputs()).__getitem__, TARGETS, CrossEntropy(COUNTS), settings, "x")
