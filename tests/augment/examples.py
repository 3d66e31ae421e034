"""A batch, its partners, and slow references."""

import torch
from torch import Tensor
from torch.nn import functional as F

COUNTS = (90, 30, 29, 10)


def batch(size: int = 24, height: int = 7, width: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, labels, partners and their labels. From 16 images, every pair of the four classes occurs."""
    generator = torch.Generator().manual_seed(seed)
    images, partners = torch.randint(0, 256, (2, size, 3, height, width), dtype=torch.uint8, generator=generator)
    labels = torch.arange(size)
    return images, labels % 4, partners, labels // 4 % 4


def uniforms(size: int, columns: int, seed: int = 1) -> Tensor:
    return torch.rand(size, columns, generator=torch.Generator().manual_seed(seed))


def mixed_labels(targets: Tensor, partner_targets: Tensor, shares: list[float]) -> Tensor:
    """Soft targets in float64 from the share of each image's own label."""
    share = torch.tensor(shares, dtype=torch.float64)[:, None]
    return share * F.one_hot(targets, 4) + (1 - share) * F.one_hot(partner_targets, 4)
