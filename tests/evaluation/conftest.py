from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from longtail.data import long_tailed_counts


class Example(NamedTuple):
    """Logits biased towards frequent classes, on an imbalanced test set without the last class."""

    logits: Tensor
    targets: Tensor
    counts: Tensor

    @property
    def predicted(self) -> Tensor:
        return self.logits.argmax(1)


@pytest.fixture(scope="session")
def long_tail() -> Example:
    """Return 600 examples of 12 classes; class 11 is predicted but never a target."""
    generator = torch.Generator().manual_seed(0)
    counts = long_tailed_counts(500, 12, 100)
    targets = torch.randint(0, 11, (600,), generator=generator) * torch.randint(0, 2, (600,), generator=generator)
    targets[:11] = torch.arange(11)
    logits = torch.randn(600, 12, generator=generator) + 0.2 * counts.float().log()
    logits[torch.arange(600), targets] += 1.0
    logits[-1, 11] = 20.0
    return Example(logits, targets, counts)
