"""Center loss (Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016).

https://ydwen.github.io/papers/WenECCV16.pdf: ||Phi(x) - mu_y||^2, without the factor of 1/2 in the paper, as in
Appendix D of the ELM paper. In the paper, a center moves toward the mean of its class in the batch by a share that
grows with the number of its images there. Here it moves by a fixed share, as in `DROLoss`. The centers are not
parameters: a learned center would depend on the learning rate and decay toward zero.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.memory import Centroids


class CenterLoss(EmbeddingLoss):
    """Squared distance to a running mean of the class.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D. Required.
        momentum: Share of a center that is kept in a batch with images of its class, in [0, 1). Default: 0.9. Centers
            move after the loss of the batch is computed. A class without a center yet contributes 0.
        weight: Factor of the loss, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Raises:
        InputError: If `embedding_dim` is missing or `momentum` is out of range.

    Example:
        >>> center = CenterLoss([5, 5], embedding_dim=1, weight=1.0)
        >>> center(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
        tensor(0.)
        >>> center(torch.tensor([[4.0], [7.0]]), torch.tensor([0, 1]))  # (4 - 2)^2 for one of two rows
        tensor(2.)
    """

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        momentum: float = 0.9,
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts, embedding_dim, weight=weight, ignore_index=ignore_index)
        self.momentum = momentum
        self.centroids = Centroids(len(self.counts_C), self.needed_dim("the center of each class"), momentum)

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the squared distance of each example to its center, shape (B,)."""
        means_BD, seen_B = self.centroids.of(targets_B)
        return torch.where(seen_B, (embeddings_BD - means_BD).square().sum(dim=1), 0.0)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Move the centers."""
        self.centroids.update(embeddings_BD, targets_B)
