"""Tiny long-tailed images for the examples of this folder. Use your own data in their place."""

import torch
from torch import Tensor

CLASS_COUNTS = (200, 40, 10)


def images(counts: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images of one pattern per class, shape (N, 3, 16, 16), and their labels, shape (N,)."""
    patterns = torch.randn(len(counts), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(targets), 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return 0.4 * patterns[targets] + noise, targets


TRAIN = images(CLASS_COUNTS, seed=1)
TEST = images((50, 50, 50), seed=2)
