"""The differentiable step against `torch.optim.SGD` and finite differences; the closed form against autograd."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.models.heads import CosineHead, LinearHead
from longtail.training.balms.lookahead import (
    SGDStep,
    call_with,
    example_gradients,
    linear_gradients,
    logit_slopes,
    sgd_lookahead,
    softmax_residuals,
    velocities_of,
)

COUNTS = (500, 60, 7, 2)
STEPS = [
    SGDStep(0.3),
    SGDStep(0.3, momentum=0.9, weight_decay=0.01),
    SGDStep(0.3, momentum=0.9, weight_decay=0.01, nesterov=True),
]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(seed: int, size: int = 12) -> tuple[Tensor, Tensor]:
    return normal(size, 5, seed=seed), torch.arange(size) % len(COUNTS)


def sgd(module: nn.Module, step: SGDStep) -> torch.optim.SGD:
    """Return an optimizer that has taken a step, so that it has velocities."""
    optimizer = torch.optim.SGD(
        module.parameters(),
        lr=step.lr,
        momentum=step.momentum,
        weight_decay=step.weight_decay,
        nesterov=step.nesterov,
    )
    embeddings_BD, targets_B = batch(0)
    F.cross_entropy(module(embeddings_BD), targets_B).backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


@pytest.fixture(params=[LinearHead, CosineHead], ids=["linear", "cosine"])
def head(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = request.param(5, len(COUNTS)).double()
    return module


@pytest.mark.parametrize("step", STEPS, ids=["plain", "momentum", "nesterov"])
@pytest.mark.parametrize("started", [False, True])
def test_the_step_is_the_one_torch_takes(head: nn.Module, step: SGDStep, started: bool) -> None:
    optimizer = sgd(head, step)
    if not started:
        optimizer.state.clear()
    embeddings_BD, targets_B = batch(1)
    after = sgd_lookahead(
        dict(head.named_parameters()),
        lambda p: F.cross_entropy(call_with(head, p, embeddings_BD), targets_B),
        SGDStep.next_of(optimizer),
        velocities_of(optimizer, head),
    )
    F.cross_entropy(head(embeddings_BD), targets_B).backward()
    optimizer.step()
    torch.testing.assert_close(after, dict(head.named_parameters()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("step", STEPS, ids=["plain", "momentum", "nesterov"])
def test_autograd_through_the_step_is_the_derivative(step: SGDStep) -> None:
    embeddings_BD, targets_B = batch(1)
    later_BD, later_B = batch(2)
    velocity = {"w": normal(4, 5, seed=3)}

    def later_loss(weights_B: Tensor, w: Tensor) -> Tensor:
        def loss(p: dict[str, Tensor]) -> Tensor:
            return (weights_B * F.cross_entropy(embeddings_BD @ p["w"].T, targets_B, reduction="none")).mean()

        return F.cross_entropy(later_BD @ sgd_lookahead({"w": w}, loss, step, velocity)["w"].T, later_B)

    leaves = (torch.ones(12, dtype=torch.float64, requires_grad=True), normal(4, 5, seed=4).requires_grad_())
    assert torch.autograd.gradcheck(later_loss, leaves)


@pytest.mark.parametrize("step", STEPS, ids=["plain", "momentum", "nesterov"])
@pytest.mark.parametrize("loss_class", [BalancedSoftmax, CrossEntropy])
def test_the_closed_form_equals_autograd_through_the_look_ahead(
    head: nn.Module, step: SGDStep, loss_class: type[nn.Module]
) -> None:
    optimizer, loss = sgd(head, step), loss_class(COUNTS, reduction="none")
    (embeddings_BD, targets_B), (meta_MD, meta_M) = batch(1), batch(2, 8)
    parameters = dict(head.named_parameters())

    weights_B = torch.ones(12, dtype=torch.float64, requires_grad=True)
    after = sgd_lookahead(
        parameters,
        lambda p: (weights_B * loss(call_with(head, p, embeddings_BD), targets_B)).mean(),
        step,
        velocities_of(optimizer, head),
    )
    meta_loss = F.cross_entropy(call_with(head, after, meta_MD), meta_M)
    (expected_B,) = torch.autograd.grad(meta_loss, weights_B, retain_graph=True)
    pull = dict(zip(parameters, torch.autograd.grad(meta_loss, list(after.values())), strict=True))

    logits_BC = head(embeddings_BD)
    (residuals_BC,) = torch.autograd.grad(loss(logits_BC, targets_B).mean(), logits_BC)
    actual_B = example_gradients(logit_slopes(head, parameters, pull, embeddings_BD), residuals_BC, step.gain)
    torch.testing.assert_close(actual_B, expected_B, rtol=1e-9, atol=1e-12)
    assert expected_B.abs().max() > 1e-4


def test_the_look_ahead_touches_no_buffer_parameter_or_velocity() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).double().train()
    optimizer = sgd(model, STEPS[1])
    before, velocities = copy.deepcopy(model.state_dict()), copy.deepcopy(velocities_of(optimizer, model))
    embeddings_BD, targets_B = batch(1)
    after = sgd_lookahead(
        dict(model.named_parameters()),
        lambda p: F.cross_entropy(call_with(model, p, embeddings_BD), targets_B),
        STEPS[1],
        velocities_of(optimizer, model),
    )
    F.cross_entropy(call_with(model, after, embeddings_BD), targets_B).backward()
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    torch.testing.assert_close(velocities_of(optimizer, model), velocities, rtol=0, atol=0)
    model(embeddings_BD)  # an ordinary pass in training mode does change them
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])


def test_a_helpful_example_has_a_negative_gradient_and_a_harmful_one_a_positive() -> None:
    head = LinearHead(2, 2).double()
    nn.init.zeros_(head.weight)
    embeddings_BD = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    logits_BC = head(embeddings_BD)
    (residuals_BC,) = torch.autograd.grad(F.cross_entropy(logits_BC, torch.tensor([0, 1])), logits_BC)
    meta_loss = F.cross_entropy(head(embeddings_BD[:1]), torch.tensor([0]))
    pull = dict(zip(("weight", "bias"), torch.autograd.grad(meta_loss, [head.weight, head.bias]), strict=True))
    slopes_BC = logit_slopes(head, dict(head.named_parameters()), pull, embeddings_BD)
    helpful, harmful = example_gradients(slopes_BC, residuals_BC, 0.1).tolist()
    assert helpful < 0 < harmful


def test_softmax_residuals_and_linear_gradients_are_those_of_autograd() -> None:
    torch.manual_seed(0)
    for head in (LinearHead(5, 4).double(), nn.Linear(5, 4, bias=False).double()):
        embeddings_BD, targets_B = batch(1)
        value = F.cross_entropy(head(embeddings_BD), targets_B)
        expected = torch.autograd.grad(value, list(head.parameters()))
        actual_value, residuals_BC = softmax_residuals(head(embeddings_BD).detach(), targets_B)
        torch.testing.assert_close(actual_value, value.detach())
        gradients = linear_gradients(head, embeddings_BD, residuals_BC)
        for (name, _), gradient in zip(head.named_parameters(), expected, strict=True):
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)
