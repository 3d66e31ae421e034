"""The classifier of DLSA: flow filters that split the examples into groups, and a classifier for each group.

Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567. The first filter that finds an embedding likely enough hands it to its classifier,
which is told the class histogram of the embedding's cluster too; what no filter takes goes to the regular classifier.
Where we differ from the authors' code (`silicx/DLSA`): it sums a layer on the embedding (which may start as the
backbone's) and one on embedding and histogram, or on the embedding again for the regular classifier. Here it is one
layer. Linear, it can say the same, and at twice their learning rate moves as fast on the embedding and the bias; of
cosines the sum is another function, with logits up to twice the scale.
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
from longtail.posthoc.dlsa.flow.filter import FlowFilter

Kind = Literal["linear", "cosine"]
BLOCK = 8192
"""Embeddings that are taken at once: all of a test set would need its latents and histograms in memory together."""


class SquashedCosineHead(nn.Module):
    """Scaled cosine with each class vector, times |x| / (1 + |x|), so that a short embedding decides little.

    The cosine classifier of Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019,
    https://arxiv.org/abs/1904.05160, which DLSA takes.

    Args:
        embedding_dim: D.
        num_classes: C.
        scale: multiplies the cosines.

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
        """Logits (B, C) between -scale and scale."""
        squashed_BD = embeddings_BD / (1 + embeddings_BD.norm(dim=1, keepdim=True))
        return self.scale * F.linear(squashed_BD, F.normalize(self.weight, dim=1))


class Route(NamedTuple):
    """Where embeddings go.

    Args:
        level_B: the level that takes each, int64; M for the regular classifier.
        cluster_MB: its cluster in the filter of each level, int64.
    """

    level_B: Tensor
    cluster_MB: Tensor


class DLSAHead(nn.Module):
    """Levels of a flow filter and a cluster-aided classifier each, and a regular classifier for the rest.

    As constructed it takes nothing at any level: `longtail.posthoc.DLSA` teaches it. The filters stay in evaluation
    mode, whatever the mode of the head.

    Args:
        embedding_dim: D.
        num_classes: C.
        levels: M; 0 leaves the regular classifier alone.
        clusters: K, of each filter.
        blocks: of each filter's flow.
        sigma: spread of the clusters' centres in each dimension.
        classifier: "linear", or "cosine".
        seed: of the filters' first weights; those of the classifiers come from the global random numbers.

    Raises:
        InputError: for a number out of range, or another kind of classifier.

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
            raise InputError(f"the number of levels must be >= 0 (3 for strong features, else 1), not {levels}")
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
        """M."""
        return len(self.filters)

    def train(self, mode: bool = True) -> "DLSAHead":
        """Training mode for the classifiers; a filter's batch norm must not look at the batch."""
        super().train(mode)
        self.filters.eval()
        return self

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """Logits (B, C) by the classifier of the level that takes each embedding.

        Raises:
            InputError: for embeddings of another dimension.
        """
        dim = self.rest.weight.shape[1]
        if embeddings_BD.shape[1:] != (dim,):
            raise InputError(f"DLSA was fitted on features of {dim} numbers, not {tuple(embeddings_BD.shape)[1:]}")
        blocks = torch.split(embeddings_BD.to(self.thresholds_M.dtype), BLOCK)
        return torch.cat([self._logits(block_BD) for block_BD in blocks])

    def _logits(self, embeddings_BD: Tensor) -> Tensor:
        logits_BC: Tensor = self.rest(embeddings_BD)
        for level in reversed(range(self.levels)):  # so that the first level that takes one has the last word
            density_B, cluster_B = self.look(level, embeddings_BD)
            aided_BC = self.aided_logits(level, embeddings_BD, cluster_B)
            logits_BC = torch.where(self._takes(level, density_B)[:, None], aided_BC, logits_BC)
        return logits_BC

    @torch.no_grad()
    def look(self, level: int, embeddings_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density (B,) and cluster (B,) by the filter of a level."""
        found = cast("FlowFilter", self.filters[level]).assign(embeddings_BD, BLOCK)
        return found.log_density_N, found.clusters_N

    def aided_inputs(self, level: int, embeddings_BD: Tensor, cluster_B: Tensor) -> Tensor:
        """What the classifier of a level sees: the embedding and the histogram of its cluster, shape (B, D + C)."""
        return torch.cat([embeddings_BD, self.priors_MKC[level][cluster_B]], dim=1)

    def aided_logits(self, level: int, embeddings_BD: Tensor, cluster_B: Tensor) -> Tensor:
        """Logits (B, C) of the cluster-aided classifier of a level, whoever takes the embeddings."""
        logits_BC: Tensor = self.aided[level](self.aided_inputs(level, embeddings_BD, cluster_B))
        return logits_BC

    @torch.no_grad()
    def route(self, embeddings_BD: Tensor) -> Route:
        """Level and clusters of each embedding."""
        embeddings_BD = embeddings_BD.to(self.thresholds_M.dtype)
        level_B = torch.full((len(embeddings_BD),), self.levels, device=embeddings_BD.device)
        cluster_MB = level_B.new_zeros(self.levels, len(embeddings_BD))
        for level in reversed(range(self.levels)):
            density_B, cluster_MB[level] = self.look(level, embeddings_BD)
            level_B = torch.where(self._takes(level, density_B), level, level_B)
        return Route(level_B, cluster_MB)

    def _takes(self, level: int, density_B: Tensor) -> Tensor:
        return density_B >= self.thresholds_M[level]
