"""Range loss (Zhang et al., "Range Loss for Deep Face Recognition with Long-Tailed Training Data", ICCV 2017).

https://arxiv.org/abs/1611.08976: a times the sum over the classes of the batch of the harmonic mean of their k largest
squared distances, plus b times [m - D]_+, where D is the smallest squared distance of two class means of the batch. The
ELM paper mentions only the second term. The margin m is in units of squared distance and depends on the network; the
default of 1 is a choice of this library.
Shapes: B = batch, D = embedding dimension, C = classes, P = pairs of rows.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.pairs import other_class, rank_within, same_class, squared_distances
from longtail.ranges import check_number

SMALLEST = 1e-12
"""Lower bound of a squared distance before it is inverted."""


class RangeLoss(EmbeddingLoss):
    """Loss that shrinks the largest distances within classes and separates the two nearest class means.

    All examples of a batch have the value of the batch.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D, or None for any.
        num_ranges: Number of largest distances of a class that count, k. Default: 2. A class with fewer pairs counts
            all of them.
        margin: Squared distance that two class means should have, m. Default: 1.
        intra_scale: Factor of the first term, a. Default: 1.
        inter_scale: Factor of the second term, b. Default: 1. Both terms are multiplied by `weight`.
        weight: Factor of the loss, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Raises:
        InputError: If an option is out of range.

    Example:
        >>> range_loss = RangeLoss([5, 5], margin=10.0, weight=1.0)
        >>> range_loss(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([0, 0, 0, 1]))
        tensor(7.6000)

        The squared distances in class 0 are 4, 1 and 1, and the harmonic mean of the two largest is
        2 / (1/4 + 1/1) = 1.6. The squared distance of the means, 1 and 3, is 4: 10 - 4.
    """

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        num_ranges: int = 2,
        margin: float = 1.0,
        intra_scale: float = 1.0,
        inter_scale: float = 1.0,
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts, embedding_dim, weight=weight, ignore_index=ignore_index)
        check_number("num_ranges", num_ranges, "2 in the paper", integer=True, at_least=1)
        check_number("margin", margin, at_least=0)
        check_number("intra_scale", intra_scale, at_least=0)
        check_number("inter_scale", inter_scale, at_least=0)
        self.num_ranges, self.margin = num_ranges, margin
        self.intra_scale, self.inter_scale = intra_scale, inter_scale

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Compute the value of the batch, shape (B,)."""
        intra = harmonic_ranges(squared_distances(embeddings_BD, embeddings_BD), targets_B, self.num_ranges)
        inter = F.relu(self.margin - nearest_means(embeddings_BD, targets_B))
        return (self.intra_scale * intra + self.inter_scale * inter).expand(len(targets_B))


def harmonic_ranges(distances_BB: Tensor, targets_B: Tensor, num_ranges: int) -> Tensor:
    """Sum the harmonic mean of the largest distances over the classes: a scalar.

    Args:
        distances_BB: Squared distances of all pairs of rows.
        targets_B: Labels, shape (B,). Rows with a negative label are ignored.
        num_ranges: Number of distances of a class that count.

    Example:
        >>> harmonic_ranges(torch.tensor([[0.0, 3.0], [3.0, 0.0]]), torch.tensor([1, 1]), 2)
        tensor(3.)
    """
    first_P, second_P = torch.triu_indices(len(targets_B), len(targets_B), 1, device=targets_B.device)
    distances_P, valid_P = distances_BB[first_P, second_P], same_class(targets_B)[first_P, second_P]
    classes_P = torch.where(valid_P, targets_B[first_P], -1)
    falling_P = distances_P.detach().argsort(descending=True, stable=True)
    order_P, rank_P, starts_P = rank_within(classes_P[falling_P])
    chosen_P = falling_P[order_P]
    counts_P = (rank_P < num_ranges) & valid_P[chosen_P]
    inverse_P = torch.where(counts_P, 1 / distances_P[chosen_P].clamp(min=SMALLEST), 0.0)
    sums_P = torch.zeros_like(inverse_P).index_add(0, starts_P, inverse_P)  # at the first pair of a class
    numbers_P = torch.zeros_like(sums_P).index_add(0, starts_P, counts_P.to(sums_P.dtype))
    return torch.where(numbers_P > 0, numbers_P / torch.where(numbers_P > 0, sums_P, 1.0), 0.0).sum()


def nearest_means(embeddings_BD: Tensor, targets_B: Tensor) -> Tensor:
    """Compute the smallest squared distance of two class means of the batch: a scalar, infinite for a single class.

    Example:
        >>> nearest_means(torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([0, 0, 1]))
        tensor(9.)
    """
    itself_BB = torch.eye(len(targets_B), dtype=embeddings_BD.dtype, device=targets_B.device)
    members_BB = same_class(targets_B).to(embeddings_BD.dtype) + itself_BB
    means_BD = members_BB @ embeddings_BD / members_BB.sum(dim=1, keepdim=True)
    return squared_distances(means_BD, means_BD).masked_fill(~other_class(targets_B), math.inf).amin()
