"""Fixtures: Gaussian classes with a long-tailed prior, and a head biased towards the most frequent one."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from longtail.models.heads import LinearHead, linear_head

COUNTS = [400, 40, 4]


class World(NamedTuple):
    features: Tensor  # (N, D)
    targets: Tensor  # (N,)
    head: LinearHead


@pytest.fixture
def world() -> World:
    """Return class-balanced features of three overlapping classes, and the Bayes-optimal head of the training prior."""
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    targets = torch.arange(3).repeat_interleave(60)
    features = means[targets] + torch.randn(180, 3, generator=generator)
    prior = torch.tensor(COUNTS).float() / sum(COUNTS)
    return World(features, targets, linear_head(means, prior.log() - means.square().sum(dim=1) / 2))
