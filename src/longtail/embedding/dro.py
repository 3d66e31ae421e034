"""DRO-LT in one stage (Samuel and Chechik, "Distributional Robustness Loss for Long-tail Learning", ICCV 2021).

https://arxiv.org/abs/2104.03066, as adapted in Eq. 5 and Sec. 5 of the ELM paper: Omega(x, y) = log sum over (x', y')
of exp(||Phi(x) - mu_y||^2 - ||Phi(x') - mu_y||^2 + eps_y [y' != y]) with eps_y = c pi_y^(-1/2), added to cross-entropy.
The ELM paper sums over the training set and uses the class mean for mu_y. Here, the sum is over the batch, and mu_y is
a running mean without a gradient.

The authors' code has further parts that are not included: centroids recomputed from all images before each epoch,
non-squared distances divided by a temperature, a learned eps that is subtracted from the positives, and a second
training of the classifier. Their sampler, which draws four images of a class at a time, is `ClassAwareSampler`.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

import math

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.memory import Centroids
from longtail.embedding.pairs import squared_distances
from longtail.ranges import check_number


class DROLoss(EmbeddingLoss):
    """Loss that moves an example closer to the centroid of its class than all others of the batch, by a margin.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D. Required.
        margin_scale: Margin of a class with all the images, in units of squared distance, c. Default: 1.
        margin_power: Exponent of the inverse class share in the margin. Default: 0.5; 0 gives all classes one margin.
        momentum: Share of a centroid that is kept in a batch with images of its class, in [0, 1). Default: 0.9.
            Centroids move after the loss of the batch is computed. A class without a centroid yet contributes 0.
        weight: Factor of the loss, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Raises:
        InputError: If `embedding_dim` is missing, or an option is out of range.

    Example:
        >>> dro = DROLoss([1, 1], embedding_dim=1, margin_power=0, weight=1.0)
        >>> embeddings, targets = torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1])
        >>> dro(embeddings, targets), dro(embeddings, targets)  # second call: log(1 + e^(0 - 4 + 1)) for both
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
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts, embedding_dim, weight=weight, ignore_index=ignore_index)
        check_number("margin_scale", margin_scale, at_least=0)
        check_number("margin_power", margin_power, at_least=0)
        self.margin_scale, self.margin_power, self.momentum = margin_scale, margin_power, momentum
        self.centroids = Centroids(len(self.counts_C), self.needed_dim("the centroid of each class"), momentum)
        counts = ClassCounts(class_counts)
        shares_C = counts.prior.clamp(min=1 / counts.total)  # avoids 0 ** -power for a class without images
        self.register_buffer("margin_C", margin_scale * shares_C**-margin_power, persistent=False)

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute Omega of each example, shape (B,)."""
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
