"""Heads: from the embedding to the logits. Shapes: B = batch, D = embedding dimension, C = classes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.errors import InputError


class LinearHead(nn.Linear):
    """The ordinary last layer: `W x + b`.

    Args:
        embedding_dim: D.
        num_classes: C.

    Example:
        >>> LinearHead(64, 10)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)


class CosineHead(nn.Module):
    """Cosine of the angle between embedding and class vector, times a scale (NormFace, Wang et al., 2017).

    A prior added to logits in [-1, 1] would outweigh them: keep a scale of about 16 to 30 under Balanced Softmax, and
    1 under losses that scale themselves (LDAM).

    Args:
        embedding_dim: D.
        num_classes: C.
        scale: multiplies the cosines.

    Raises:
        InputError: if `scale` is not positive.

    Example:
        >>> head = CosineHead(64, 10, scale=16.0)
        >>> bool(head(torch.randn(2, 64)).abs().max() <= 16.0)
        True
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, scale: float = 16.0) -> None:
        super().__init__()
        if scale <= 0:
            raise InputError(f"the scale of a cosine head must be positive, not {scale}")
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Logits (B, C) in [-scale, scale]."""
        return self.scale * F.linear(F.normalize(embeddings_BD, dim=1), F.normalize(self.weight, dim=1))
