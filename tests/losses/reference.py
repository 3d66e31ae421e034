"""Compare a loss with a slow scalar function written from its paper: plain Python floats, one example at a time."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.conformance import COUNTS, NUM_CLASSES

TOTAL = sum(COUNTS)

Scalar = Callable[[list[float], int], float]  # (logits of one example, its label) -> loss


def examples(scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits (30, C) in float64 and labels (30,), each class six times."""
    logits_BC = scale * torch.randn(30, NUM_CLASSES, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return logits_BC, torch.arange(30) % NUM_CLASSES


def assert_equals_reference(loss: nn.Module, reference: Scalar, scale: float = 3.0) -> None:
    """Check the loss of each example; `loss` must have `reduction="none"`. The tolerance is for float32 constants."""
    logits_BC, targets_B = examples(scale)
    expected = [reference(z, y) for z, y in zip(logits_BC.tolist(), targets_B.tolist(), strict=True)]
    torch.testing.assert_close(
        loss(logits_BC, targets_B), torch.tensor(expected, dtype=torch.float64), rtol=2e-6, atol=1e-8
    )


def own_gradient(loss: nn.Module, label: int, logit: float = 0.0) -> float:
    """Return the gradient on the logit of the true class if all logits are `logit`."""
    leaf_BC = torch.full((1, NUM_CLASSES), logit, requires_grad=True)
    loss(leaf_BC, torch.tensor([label])).sum().backward()
    assert leaf_BC.grad is not None
    return -float(leaf_BC.grad[0, label])


def softmax(z: list[float]) -> list[float]:
    exps = [math.exp(value - max(z)) for value in z]
    return [e / sum(exps) for e in exps]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))
