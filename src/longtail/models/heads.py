"""Heads: from the embedding to the logits. Shapes: B = batch, D = embedding dimension, C = classes."""

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.errors import InputError

TINY = 1e-12


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


@torch.no_grad()
def linear_head(weight_CD: Tensor, bias_C: Tensor) -> LinearHead:
    """A linear head with these weights (which are copied).

    Example:
        >>> linear_head(torch.eye(2), torch.tensor([0.0, 1.0]))(torch.tensor([[3.0, 4.0]]))
        tensor([[3., 5.]], grad_fn=<AddmmBackward0>)
    """
    head = LinearHead(weight_CD.shape[1], len(weight_CD)).to(weight_CD.device)
    head.weight.copy_(weight_CD)
    head.bias.copy_(bias_C)
    return head


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


class FoldingHead(nn.Linear):
    """A linear layer with something on top for the time of training, after which `folded` gives the plain layer."""

    @abstractmethod
    def folded(self) -> LinearHead:
        """The linear head that gives the same logits."""


class LWSHead(FoldingHead):
    """A linear layer whose logits are multiplied by a learnt scale per class: learnable weight scaling.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    https://arxiv.org/abs/1910.09217: the layer is kept from an earlier stage and only the scales learn. MiSLAS (Zhong
    et al., CVPR 2021, https://arxiv.org/abs/2104.00466) lets the layer learn along, at a fifth of the rate.

    Args:
        embedding_dim: D.
        num_classes: C.
        weights_rate: share of the learning rate (not of the weight decay) with which the layer itself learns; 0 keeps
            it as it is.

    Raises:
        InputError: if `weights_rate` does not lie in [0, 1].

    Example:
        >>> head = LWSHead(64, 10)
        >>> [name for name, parameter in head.named_parameters() if parameter.requires_grad]
        ['scale_C']
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, weights_rate: float = 0.0) -> None:
        super().__init__(embedding_dim, num_classes)
        if not 0 <= weights_rate <= 1:
            raise InputError(f"weights_rate must lie in [0, 1] (0 keeps the weights, MiSLAS 0.2), not {weights_rate}")
        self.weights_rate = weights_rate
        self.scale_C = nn.Parameter(torch.ones(num_classes))
        self.weight.requires_grad_(weights_rate > 0)
        self.bias.requires_grad_(weights_rate > 0)

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.scale_C * F.linear(embeddings_BD, self._slowed(self.weight), self._slowed(self.bias))

    def _slowed(self, parameter: Tensor) -> Tensor:
        """The same value, with `weights_rate` times its gradient."""
        return torch.lerp(parameter.detach(), parameter, self.weights_rate) if self.weights_rate else parameter

    @torch.no_grad()
    def folded(self) -> LinearHead:
        """The linear head that gives the same logits."""
        return linear_head(self.scale_C[:, None] * self.weight, self.scale_C * self.bias)


class MaxNormHead(FoldingHead):
    """A linear layer whose class vectors are kept short: after each step, one that is too long is cut to the bound.

    The second stage of Alshammari et al., "Long-Tailed Recognition via Weight Balancing", CVPR 2022,
    https://arxiv.org/abs/2203.14197: projected gradient descent, beside a strong weight decay. The bound lies between
    the shortest and the longest vector that the layer has at first, so keep the layer of the stage before. The authors'
    code (`ShadeAlsha/LTR-weight-balancing`) cuts once an epoch, the paper says after each step, and so do we.

    Args:
        embedding_dim: D.
        num_classes: C.
        share: where the bound lies: 0 at the shortest vector, 1 at the longest.

    Raises:
        InputError: if `share` does not lie in [0, 1].

    Example:
        >>> head = MaxNormHead(64, 10, share=0.0)
        >>> _ = head(torch.zeros(1, 64))
        >>> norms = head.weight.norm(dim=1)
        >>> bool(torch.allclose(norms, norms.min().expand(10)))
        True
    """

    bound: Tensor

    def __init__(self, embedding_dim: int, num_classes: int, *, share: float = 0.1) -> None:
        super().__init__(embedding_dim, num_classes)
        if not 0 <= share <= 1:
            raise InputError(f"the share of a MaxNormHead must lie in [0, 1], not {share}")
        self.share = share
        self.register_buffer("bound", torch.full((), -1.0))  # not known before the first batch

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Logits (B, C), by vectors within the bound."""
        self._project()
        return super().forward(embeddings_BD)

    @torch.no_grad()
    def _project(self) -> None:
        norms_C = self.weight.norm(dim=1)
        first = torch.lerp(norms_C.min(), norms_C.max(), self.share)
        self.bound.copy_(torch.where(self.bound < 0, first, self.bound))
        self.weight.mul_((self.bound / norms_C.clamp(min=TINY)).clamp(max=1.0)[:, None])

    @torch.no_grad()
    def folded(self) -> LinearHead:
        """The linear head that gives the same logits."""
        self._project()
        return linear_head(self.weight, self.bias)


class DisAlignHead(nn.Linear):
    """A fixed linear layer, corrected per class by as much as a learnt confidence in the example asks for.

    Zhang et al., "Distribution Alignment: A Unified Framework for Long-Tail Visual Recognition", CVPR 2021,
    https://arxiv.org/abs/2103.16370, Eqs. 4 to 6: `s(x) (a_c z_c + b_c) + (1 - s(x)) z_c` with s(x) = sigmoid(v x + u).
    Only a, b, v and u learn.

    Args:
        embedding_dim: D.
        num_classes: C.

    Example:
        >>> head = DisAlignHead(64, 10)
        >>> x = torch.randn(2, 64)
        >>> torch.allclose(head(x), torch.nn.functional.linear(x, head.weight, head.bias), atol=1e-6)
        True
    """

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        self.scale_C = nn.Parameter(torch.ones(num_classes))
        self.shift_C = nn.Parameter(torch.zeros(num_classes))
        self.confidence = nn.Linear(embedding_dim, 1)

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Logits (B, C)."""
        logits_BC = super().forward(embeddings_BD)
        aligned_BC = self.scale_C * logits_BC + self.shift_C
        return torch.lerp(logits_BC, aligned_BC, self.confidence(embeddings_BD).sigmoid())
