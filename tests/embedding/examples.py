"""Batches of embeddings, and plain Python arithmetic on them for the slow references: lists of floats, row by row.

Shapes: B = batch, D = embedding dimension.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

COUNTS = (50, 20, 8, 4, 1)
NUM_CLASSES = len(COUNTS)
DIM = 6

Point = list[float]
Omega = Callable[[int, list[Point], list[int]], float]  # (row, embeddings, labels) -> its loss


def batch(seed: int = 0, size: int = 24, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return embeddings (B, D) that vary as much between classes as within, and imbalanced labels (B,)."""
    generator = torch.Generator().manual_seed(seed)
    targets_B = (NUM_CLASSES * torch.rand(size, generator=generator) ** 2).long()
    targets_B[:NUM_CLASSES] = torch.arange(NUM_CLASSES)
    targets_B = targets_B[torch.randperm(size, generator=generator)]
    places = torch.randn(NUM_CLASSES, DIM, generator=torch.Generator().manual_seed(99))
    return (places[targets_B] + torch.randn(size, DIM, generator=generator)).to(dtype), targets_B


def value_and_gradient(loss: nn.Module, embeddings_BD: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    leaf_BD = embeddings_BD.detach().clone().requires_grad_()
    value: Tensor = loss(leaf_BD, *others)
    (gradient_BD,) = torch.autograd.grad(value, leaf_BD, allow_unused=True)
    return value.detach(), torch.zeros_like(leaf_BD) if gradient_BD is None else gradient_BD


def squared(one: Point, other: Point) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def mean_of(points: list[Point]) -> Point:
    return [sum(column) / len(points) for column in zip(*points, strict=True)]


def log1p_sum_exp(exponents: list[float]) -> float:
    top = max([0.0, *exponents])
    return top + math.log(math.exp(-top) + sum(math.exp(value - top) for value in exponents))


def assert_equals_reference(loss: Any, omega: Omega, seed: int = 0) -> None:
    """Check the loss of each example of a batch in float64. Constants are float32, hence the tolerance."""
    embeddings_BD, targets_B = batch(seed, dtype=torch.float64)
    points, labels = embeddings_BD.tolist(), targets_B.tolist()
    expected = [omega(row, points, labels) for row in range(len(points))]
    actual_B = loss.per_example(embeddings_BD, targets_B)
    torch.testing.assert_close(actual_B, torch.tensor(expected, dtype=torch.float64), rtol=2e-6, atol=1e-7)
