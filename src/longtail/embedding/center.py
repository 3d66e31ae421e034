"""Centre loss (Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016).

https://ydwen.github.io/papers/WenECCV16.pdf: ||Phi(x) - mu_y||^2, without the paper's factor of 1/2, as Appendix D of
the ELM paper gives it. Their centres move towards the mean of their class in the batch by a share that grows with its
images there; ours by a fixed share, as those of `DROLoss` do. Either way they are no parameters: a centre that the
optimizer learnt would move by its learning rate, and decay towards zero.
Shapes: B = batch, D = embedding dimension, C = classes.
"""

from typing import Unpack

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.embedding.base import Contract, EmbeddingLoss
from longtail.embedding.centroids import Centroids


class CenterLoss(EmbeddingLoss):
    """Squared distance to a running mean of the class.

    Args:
        class_counts: training images per class, shape (C,).
        embedding_dim: D.
        momentum: what is kept of a centre in a batch that shows its class, in [0, 1). Centres move once the loss of
            the batch is taken; a class without one yet contributes 0.
        contract: `weight` and `ignore_index`, see `EmbeddingLoss`.

    Raises:
        InputError: if `embedding_dim` is missing or `momentum` out of its range.

    Example:
        >>> center = CenterLoss([5, 5], embedding_dim=1, weight=1.0)
        >>> center(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
        tensor(0.)
        >>> center(torch.tensor([[4.0], [7.0]]), torch.tensor([0, 1]))  # (4 - 2)^2, of one row of two
        tensor(2.)
    """

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        momentum: float = 0.9,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, embedding_dim, **contract)
        self.centroids = Centroids(len(self.counts_C), self.needed_dim("the centre of each class"), momentum)

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Squared distance of each example to its centre, shape (B,)."""
        means_BD, seen_B = self.centroids.of(targets_B)
        return torch.where(seen_B, (embeddings_BD - means_BD).square().sum(dim=1), 0.0)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Move the centres."""
        self.centroids.update(embeddings_BD, targets_B)
