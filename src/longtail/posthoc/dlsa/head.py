"""The classifier of DLSA: flow filters that split the examples into groups, and a classifier for each group.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. An embedding goes to the classifier of the first filter whose density exceeds a
threshold. That classifier also gets the class histogram of the embedding's cluster. Embeddings below all thresholds go
to the regular classifier.

Difference from the authors' code (`silicx/DLSA`): it sums a layer on the embedding, which may start from the trained
head, and a layer on embedding and histogram (on the embedding again for the regular classifier). Here each classifier
is one layer. A linear layer represents the same functions, and at twice their learning rate its weights for the
embedding and its bias move equally fast. For cosines the sum is a different function, with logits up to twice the
scale.

Shapes: B = batch, D = embedding dimension, C = classes, M = levels, K = clusters.
"""

import math
from typing import Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail._random import key
from longtail.errors import InputError, unknown_name
from longtail.models.heads import LinearHead
from longtail.posthoc.dlsa.filter import FlowFilter

Kind = Literal["linear", "cosine"]
BLOCK = 8192
"""Maximum number of embeddings per forward pass; latents and histograms of a whole test set may not fit into memory."""


class SquashedCosineHead(nn.Module):
    """A cosine classifier multiplied by |x| / (1 + |x|), so that embeddings of small norm get small logits.

    Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019, https://arxiv.org/abs/1904.05160;
    used by DLSA.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.
        scale: Factor of the cosines.

    Example:
        >>> head = SquashedCosineHead(2, 2)
        >>> _ = head.weight.data.copy_(torch.eye(2))
        >>> head(torch.tensor([[3.0, 0.0]]))
        tensor([[12.,  0.]], grad_fn=<MulBackward0>)
    """

    def __init__(self, embedding_dim: int, num_classes: int, scale: float = 16.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Compute the logits (B, C), in (-scale, scale)."""
        squashed_BD = embeddings_BD / (1 + embeddings_BD.norm(dim=1, keepdim=True))
        return self.scale * F.linear(squashed_BD, F.normalize(self.weight, dim=1))


class Route(NamedTuple):
    """Level and clusters of embeddings.

    Attributes:
        level_B: Level that takes each embedding, int64, shape (B,); M for the regular classifier.
        cluster_MB: Cluster of each embedding in the filter of each level, int64, shape (M, B).
    """

    level_B: Tensor
    cluster_MB: Tensor


class DLSAHead(nn.Module):
    """M levels, each with a flow filter and a cluster-aided classifier, and a regular classifier for the rest.

    A new head routes every embedding to the regular classifier; `longtail.posthoc.DLSA` trains it. The filters stay in
    evaluation mode, whatever the mode of the head.

    Args:
        embedding_dim: Embedding dimension D.
        num_classes: Number of classes C.
        levels: Number of levels M; 0 leaves only the regular classifier.
        clusters: Number of clusters K of each filter.
        blocks: Number of blocks in the flow of each filter.
        sigma: Standard deviation of the cluster centers in each dimension.
        classifier: "linear" (default) or "cosine".
        seed: Seed of the initial filters. The classifiers are initialized from the global random state.

    Raises:
        InputError: If a number is out of range, or the kind of classifier is unknown.

    Example:
        >>> head = DLSAHead(8, 3, levels=2, clusters=4)
        >>> x = torch.randn(5, 8)
        >>> head.route(x).level_B, torch.equal(head(x), head.rest(x))
        (tensor([2, 2, 2, 2, 2]), True)
    """

    thresholds_M: Tensor
    priors_MKC: Tensor

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        *,
        levels: int = 1,
        clusters: int = 500,
        blocks: int = 2,
        sigma: float = 0.05,
        classifier: Kind = "linear",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if classifier not in get_args(Kind):
            raise unknown_name("classifier of a DLSAHead", classifier, get_args(Kind))
        if levels < 0:
            raise InputError(f"`levels` must be >= 0 (3 for strong features, otherwise 1), got {levels}")
        make = LinearHead if classifier == "linear" else SquashedCosineHead
        self.filters = nn.ModuleList(
            FlowFilter(embedding_dim, clusters=clusters, blocks=blocks, sigma=sigma, seed=key("filter", seed, level))
            for level in range(levels)
        )
        self.aided = nn.ModuleList(make(embedding_dim + num_classes, num_classes) for _ in range(levels))
        self.rest = make(embedding_dim, num_classes)
        self.register_buffer("thresholds_M", torch.full((levels,), torch.inf))
        self.register_buffer("priors_MKC", torch.zeros(levels, clusters, num_classes))
        self.train()

    @property
    def levels(self) -> int:
        """Number of levels M."""
        return len(self.filters)

    def train(self, mode: bool = True) -> "DLSAHead":
        """Set the mode of the classifiers; the batch normalization of the filters stays in evaluation mode.

        Args:
            mode: Whether to set training mode.
        """
        super().train(mode)
        self.filters.eval()
        return self

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Compute the logits (B, C), each by the classifier of the level that takes the embedding.

        Args:
            embeddings_BD: Embeddings, shape (B, D), any float type.

        Raises:
            InputError: If the dimension does not fit.
        """
        dim = self.rest.weight.shape[1]
        if embeddings_BD.shape[1:] != (dim,):
            raise InputError(f"features must have shape (B, {dim}), as in `fit`, got {tuple(embeddings_BD.shape)}")
        blocks = torch.split(embeddings_BD.to(self.thresholds_M.dtype), BLOCK)
        return torch.cat([self._logits(block_BD) for block_BD in blocks])

    def _logits(self, embeddings_BD: Tensor) -> Tensor:
        logits_BC: Tensor = self.rest(embeddings_BD)
        for level in reversed(range(self.levels)):  # in reverse, so that the first level that takes one overwrites
            density_B, cluster_B = self.assign(level, embeddings_BD)
            aided_BC = self.aided_logits(level, embeddings_BD, cluster_B)
            logits_BC = torch.where(self._takes(level, density_B)[:, None], aided_BC, logits_BC)
        return logits_BC

    @torch.no_grad()
    def assign(self, level: int, embeddings_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-density (B,) and cluster (B,) by the filter of a level.

        Args:
            level: Index of the level, in [0, M).
            embeddings_BD: Embeddings, shape (B, D).
        """
        found = cast("FlowFilter", self.filters[level]).assign(embeddings_BD, BLOCK)
        return found.log_density_N, found.clusters_N

    def aided_inputs(self, level: int, embeddings_BD: Tensor, cluster_B: Tensor) -> Tensor:
        """Concatenate embeddings and the class histograms of their clusters, shape (B, D + C).

        Args:
            level: Index of the level, in [0, M).
            embeddings_BD: Embeddings, shape (B, D).
            cluster_B: Cluster of each embedding at this level, shape (B,).
        """
        return torch.cat([embeddings_BD, self.priors_MKC[level][cluster_B]], dim=1)

    def aided_logits(self, level: int, embeddings_BD: Tensor, cluster_B: Tensor) -> Tensor:
        """Compute the logits (B, C) of the cluster-aided classifier of a level, for any embeddings.

        Args:
            level: Index of the level, in [0, M).
            embeddings_BD: Embeddings, shape (B, D).
            cluster_B: Cluster of each embedding at this level, shape (B,).
        """
        logits_BC: Tensor = self.aided[level](self.aided_inputs(level, embeddings_BD, cluster_B))
        return logits_BC

    @torch.no_grad()
    def route(self, embeddings_BD: Tensor) -> Route:
        """Determine level and clusters of embeddings.

        Args:
            embeddings_BD: Embeddings, shape (B, D), any float type.
        """
        embeddings_BD = embeddings_BD.to(self.thresholds_M.dtype)
        level_B = torch.full((len(embeddings_BD),), self.levels, device=embeddings_BD.device)
        cluster_MB = level_B.new_zeros(self.levels, len(embeddings_BD))
        for level in reversed(range(self.levels)):
            density_B, cluster_MB[level] = self.assign(level, embeddings_BD)
            level_B = torch.where(self._takes(level, density_B), level, level_B)
        return Route(level_B, cluster_MB)

    def _takes(self, level: int, density_B: Tensor) -> Tensor:
        return density_B >= self.thresholds_M[level]
