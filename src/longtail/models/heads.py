"""Heads: embeddings to logits, (B, D) -> (B, C).

Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.ranges import check_number

TINY = 1e-12


class LinearHead(nn.Linear):
    """A linear classifier: `W x + b`.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.

    Example:
        >>> LinearHead(64, 10)(torch.zeros(2, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__(embedding_dim, num_classes)


@torch.no_grad()
def linear_head(weight_CD: Tensor, bias_C: Tensor) -> LinearHead:
    """Build a linear head from copies of given weights.

    Args:
        weight_CD: Class vectors, shape (C, D).
        bias_C: Bias of each class, shape (C,).

    Example:
        >>> linear_head(torch.eye(2), torch.tensor([0.0, 1.0]))(torch.tensor([[3.0, 4.0]]))
        tensor([[3., 5.]], grad_fn=<AddmmBackward0>)
    """
    head = LinearHead(weight_CD.shape[1], len(weight_CD)).to(weight_CD.device)
    head.weight.copy_(weight_CD)
    head.bias.copy_(bias_C)
    return head


class CosineHead(nn.Module):
    """A cosine classifier: scaled cosine of the angle between the embedding and each class vector.

    Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017,
    https://arxiv.org/abs/1704.06369. A log prior added to logits in [-1, 1] would dominate them: use a scale of about
    16 to 30 with Balanced Softmax, and 1 with losses that scale their input (LDAM).

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.
        scale: Factor of the cosines, > 0.
        unit_start: Start from class vectors of length 1, as the authors' code of LDAM and GCL does, instead of about
            0.57. The directions are the same. The gradient of a class vector is inverse to its length, so shorter
            vectors turn faster: in the first step of LDAM by 5.4 degrees instead of 1.8.

    Raises:
        InputError: If `scale` is not positive.

    Example:
        >>> head = CosineHead(64, 10, scale=16.0)
        >>> bool(head(torch.randn(2, 64)).abs().max() <= 16.0)
        True
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, scale: float = 16.0, unit_start: bool = False) -> None:
        super().__init__()
        check_number("scale", scale, "of a CosineHead", above=0)
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if unit_start:
            with torch.no_grad():
                self.weight.copy_(F.normalize(self.weight, dim=1))

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Compute the logits (B, C), in [-scale, scale]."""
        return self.scale * F.linear(F.normalize(embeddings_BD, dim=1), F.normalize(self.weight, dim=1))

    @torch.no_grad()
    def start_from_means(self, embeddings_ND: Tensor, targets_N: Tensor) -> None:
        """Set each class vector to the mean direction of the embeddings of its class, of length 1.

        Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024,
        https://arxiv.org/abs/2309.10019. A class without an example keeps its vector.

        Args:
            embeddings_ND: Embeddings of the training images, shape (N, D).
            targets_N: Labels in [0, C), shape (N,).

        Example:
            >>> head = CosineHead(2, 2)
            >>> head.start_from_means(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
            >>> head.weight.detach()
            tensor([[1., 0.],
                    [0., 1.]])
        """
        targets_N = targets_N.to(embeddings_ND.device)
        directions_ND = F.normalize(embeddings_ND.float(), dim=1)
        sums_CD = torch.zeros_like(self.weight).index_add_(0, targets_N, directions_ND)
        has_example_C1 = torch.bincount(targets_N, minlength=len(self.weight))[:, None] > 0
        self.weight.copy_(torch.where(has_example_C1, F.normalize(sums_CD, dim=1), self.weight))


class CenteredHead(nn.Module):
    """A linear classifier on centered embeddings of length 1: `W (x - m) / |x - m| + b`.

    The head of `NearestClassMean(metric="cl2n")`, which sets the center m to the mean of the training embeddings. The
    center is a buffer and is not trained; it starts at 0.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.

    Example:
        >>> head = CenteredHead(2, 3)
        >>> torch.allclose(head(torch.tensor([[1.0, 2.0]])), head(torch.tensor([[10.0, 20.0]])))
        True
    """

    center_D: Tensor

    def __init__(self, embedding_dim: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_dim, num_classes)
        self.register_buffer("center_D", torch.zeros(embedding_dim))

    def normalize(self, embeddings_BD: Tensor) -> Tensor:
        """Subtract the center and scale each embedding to length 1, shape (B, D)."""
        return F.normalize(embeddings_BD - self.center_D, dim=1)

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Compute the logits (B, C)."""
        logits_BC: Tensor = self.linear(self.normalize(embeddings_BD))
        return logits_BC


class FoldingHead(nn.Linear, ABC):
    """Base class of heads that are reparametrized during training and equal a linear head afterwards."""

    @abstractmethod
    def folded(self) -> LinearHead:
        """Return the linear head with the same logits."""


class LWSHead(FoldingHead):
    """Learnable weight scaling (LWS): a linear layer whose logits are multiplied by a learned scale per class.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    https://arxiv.org/abs/1910.09217, keep the layer of an earlier stage and train only the scales. MiSLAS (Zhong et
    al., CVPR 2021, https://arxiv.org/abs/2104.00466) also trains the layer, at a fifth of the learning rate.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.
        weights_rate: Factor in [0, 1] of the learning rate for the layer itself. 0 freezes the layer. The factor scales
            the gradient and leaves the weight decay of the layer as it is. The code of MiSLAS scales the learning rate
            of a parameter group, and with it the decay: at 0.2 the layer decays a fifth as fast there.

    Raises:
        InputError: If `weights_rate` is not in [0, 1].

    Example:
        >>> head = LWSHead(64, 10)
        >>> [name for name, parameter in head.named_parameters() if parameter.requires_grad]
        ['scale_C']
    """

    def __init__(self, embedding_dim: int, num_classes: int, *, weights_rate: float = 0.0) -> None:
        super().__init__(embedding_dim, num_classes)
        check_number("weights_rate", weights_rate, "0 freezes the weights; 0.2 in MiSLAS", at_least=0, at_most=1)
        self.weights_rate = weights_rate
        self.scale_C = nn.Parameter(torch.ones(num_classes))
        self.weight.requires_grad_(weights_rate > 0)
        self.bias.requires_grad_(weights_rate > 0)

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Compute the logits (B, C)."""
        weight_CD, bias_C = self._scale_gradient(self.weight), self._scale_gradient(self.bias)
        return self.scale_C * F.linear(embeddings_BD, weight_CD, bias_C)

    def _scale_gradient(self, parameter: Tensor) -> Tensor:
        """Multiply the gradient of a parameter by `weights_rate`; the value does not change."""
        return torch.lerp(parameter.detach(), parameter, self.weights_rate) if self.weights_rate else parameter

    @torch.no_grad()
    def folded(self) -> LinearHead:
        """Return the linear head with the same logits."""
        return linear_head(self.scale_C[:, None] * self.weight, self.scale_C * self.bias)


class MaxNormHead(FoldingHead):
    """A linear layer with max-norm regularization: class vectors longer than a bound are projected onto it.

    Second stage of Alshammari et al., "Long-Tailed Recognition via Weight Balancing", CVPR 2022,
    https://arxiv.org/abs/2203.14197: projected gradient descent, combined with strong weight decay. The bound is
    interpolated between the shortest and the longest initial class vector, so keep the layer of the previous stage.
    Vectors are projected after each step, as in the paper; the authors' code (`ShadeAlsha/LTR-weight-balancing`)
    projects once an epoch.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.
        share: Position of the bound in [0, 1]: 0 is the length of the shortest vector, 1 of the longest.

    Raises:
        InputError: If `share` is not in [0, 1].

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
        check_number("share", share, "of a MaxNormHead", at_least=0, at_most=1)
        self.share = share
        self.register_buffer("bound", torch.full((), -1.0))  # set by the first batch

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Project the class vectors and compute the logits (B, C)."""
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
        """Return the linear head with the same logits."""
        self._project()
        return linear_head(self.weight, self.bias)


class DisAlignHead(nn.Linear):
    """A frozen linear layer with a learned, confidence-weighted correction per class.

    Zhang et al., "Distribution Alignment: A Unified Framework for Long-Tail Visual Recognition", CVPR 2021,
    https://arxiv.org/abs/2103.16370, Eqs. 4 to 6: `s(x) (a_c z_c + b_c) + (1 - s(x)) z_c` with s(x) = sigmoid(v x + u).
    Only a, b, v and u are trained. They start at a = 1 and b = 0, where the logits equal those of the layer, as in
    the authors' code for segmentation. Their code for classification (`DisAlignLinear` in cvpods) computes
    `(1 + s(x) a_c) z_c + s(x) b_c` from the same start, so its logits are up to twice those of the layer at first, and
    sets all entries of v to 0.1.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.

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
        """Compute the logits (B, C)."""
        logits_BC = super().forward(embeddings_BD)
        aligned_BC = self.scale_C * logits_BC + self.shift_C
        return torch.lerp(logits_BC, aligned_BC, self.confidence(embeddings_BD).sigmoid())
