"""DRO-LT in one stage (Samuel and Chechik, "Distributional Robustness Loss for Long-tail Learning", ICCV 2021).

https://arxiv.org/abs/2104.03066, as Eq. 5 and Sec. 5 of the ELM paper adapt it: Omega(x, y) = log sum over (x', y') of
exp(||Phi(x) - mu_y||^2 - ||Phi(x') - mu_y||^2 + eps_y [y' != y]), eps_y = c pi_y^(-1/2), added to cross-entropy. The
sum, there over the training set, is over the batch here; mu_y, there the mean of the class, is a running one, into
which no gradient flows. Left out of the authors' code: centroids found anew from all images before each epoch,
distances that are not squared, over a temperature, a learnt eps that is taken off the positives, and the second
training of the classifier. Their sampler, four images of a class at a time, is `ClassAwareSampler`.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math
from typing import Unpack

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.embedding.base import Contract, EmbeddingLoss
from longtail.embedding.centroids import Centroids
from longtail.embedding.pairs import squared_distances
from longtail.errors import InputError


class DROLoss(EmbeddingLoss):
    """Asks that an example be nearer to the centroid of its class than all others of the batch, by a margin.

    Args:
        class_counts: training images per class, shape (C,).
        embedding_dim: D.
        margin_scale: c, in units of squared distance: the margin of a class that has all images.
        margin_power: of one over the class's share; 0 gives all classes one margin.
        momentum: what is kept of a centroid in a batch that shows its class, in [0, 1). Centroids move once the loss
            of the batch is taken; a class without one yet contributes 0.
        contract: `weight` and `ignore_index`, see `EmbeddingLoss`.

    Raises:
        InputError: if `embedding_dim` is missing, or an option is out of its range.

    Example:
        >>> dro = DROLoss([1, 1], embedding_dim=1, margin_power=0, weight=1.0)
        >>> embeddings, targets = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> dro(embeddings, targets), dro(embeddings, targets)  # the second is log(1 + e^(0 - 4 + 1)) of both
        (tensor(0.), tensor(0.0486))
    """

    margin_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        margin_scale: float = 1.0,
        margin_power: float = 0.5,
        momentum: float = 0.9,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, embedding_dim, **contract)
        if not (0 <= margin_scale < math.inf and 0 <= margin_power < math.inf):
            raise InputError(
                f"margin_scale and margin_power must be finite and >= 0, not {margin_scale} and {margin_power}"
            )
        self.centroids = Centroids(len(self.counts_C), self.needed_dim("the centroid of each class"), momentum)
        counts = ClassCounts(class_counts)
        shares_C = counts.prior.clamp(min=1 / counts.total)  # a class without images has no examples either
        self.register_buffer("margin_C", margin_scale * shares_C**-margin_power, persistent=False)

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Omega of each example, shape (B,)."""
        means_BD, seen_B = self.centroids.of(targets_B)
        # row: an example x', column: the centroid of the class of x
        distances_BB = squared_distances(embeddings_BD, means_BD.to(embeddings_BD.dtype))
        margin_BB = self.margin_C[targets_B.clamp(min=0)] * (targets_B[:, None] != targets_B)
        itself_BB = torch.eye(len(targets_B), dtype=torch.bool, device=targets_B.device)
        ignored_BB = (targets_B < 0)[:, None] & ~itself_BB
        terms_BB = (distances_BB.diagonal() - distances_BB + margin_BB).masked_fill(ignored_BB, -math.inf)
        return torch.where(seen_B, terms_BB.logsumexp(dim=0), 0.0)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Move the centroids."""
        self.centroids.update(embeddings_BD, targets_B)
