"""The pull of ELM (Jitkrittum et al., "ELM: Embedding and Logit Margins for Long-Tail Learning", 2022).

Sec. 3.1: Omega(x, y) = log(1 + sum over x+ of exp(||Phi(x) - Phi(x+)||^2 - alpha_y)), where x+ are the *other* training
images of the class y. Weighted and added to `BalancedSoftmax` it is their objective, Eq. 4. No code of theirs is
public, and the text does not say which x+ a step sees. The plainest reading, those of the batch, hardly ever pairs a
rare class: in CIFAR-100-LT at an imbalance of 100, 1 batch in 740 holds two images of the rarest. So there are four
ways to choose the pairs, see `PullLoss`. The embeddings are not normalised, as their Fig. 4 implies.
Shapes: B = batch, D = embedding dimension, C = classes, P = possible partners of a row.
"""

import math
from collections.abc import Mapping
from typing import Literal, TypedDict, Unpack, get_args

import torch
from torch import Tensor

from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.embedding.base import Contract, EmbeddingLoss
from longtail.embedding.centroids import Centroids
from longtail.embedding.memory import Memory
from longtail.embedding.pairs import same_class, squared_distances, unit
from longtail.errors import InputError, unknown_name

Pairs = Literal["batch", "memory", "balanced", "centroid"]
Relaxation = Literal["softplus", "hinge"]
Normalize = Literal["none", "l2", "scale_by_sqrt_dim"]
AlphaOf = Literal["counts", "prior"]


class PullSettings(TypedDict):
    """The options of `PullLoss` that the paper sets for each data set."""

    alpha_of: AlphaOf
    alpha_scale: float
    alpha_power: float
    weight: float


PAPER_SETTINGS: Mapping[str, PullSettings] = {
    "cifar10-lt": {"alpha_of": "prior", "alpha_scale": 1.0, "alpha_power": 1.0, "weight": 0.01},
    "cifar100-lt": {"alpha_of": "counts", "alpha_scale": 1.0, "alpha_power": 0.5, "weight": 0.01},
    "imagenet-lt": {"alpha_of": "prior", "alpha_scale": 10.0, "alpha_power": 0.5, "weight": 0.001},
    "inat18": {"alpha_of": "counts", "alpha_scale": 1.0, "alpha_power": 0.5, "weight": 0.01},
    # "offers good performance across many datasets", Appendix A.2
    "any": {"alpha_of": "counts", "alpha_scale": 1.0, "alpha_power": 1.0, "weight": 0.01},
}
"""Appendix A.2, by data name: `PullLoss(class_counts, **PAPER_SETTINGS["imagenet-lt"])`."""


def pull_margins(class_counts: Countable, of: AlphaOf, scale: float, power: float) -> Tensor:
    """Squared distance that a pair of each class may keep: `scale` times the count, or share, to a power. Shape (C,).

    Example:
        >>> pull_margins([16, 4], "counts", scale=1.0, power=0.5), pull_margins([16, 4], "prior", 10.0, 1.0)
        (tensor([4., 2.]), tensor([8., 2.]))
    """
    counts = ClassCounts(class_counts)
    amounts_C = counts.counts.float() if of == "counts" else counts.prior
    return scale * amounts_C**power


class PullLoss(EmbeddingLoss):
    """Pulls the embeddings of each class together, the more tightly the rarer the class.

    Args:
        class_counts: training images per class, shape (C,).
        embedding_dim: D; needed for the pairs "memory" and "centroid".
        pairs: what stands for the other images of the class. "batch": those of the batch; "balanced": those of the
            batch, too, but of a second stream of batches, which draws four images of a class at a time and all classes
            equally often (see `stream`); "memory": those of the batch and, up to as many as the class has, the newest
            of earlier ones; "centroid": a running mean of the class.
        alpha_of: what the margin depends on, the "counts" of the classes or their shares, the "prior".
        alpha_scale: alpha_y is this, in units of squared distance,
        alpha_power: times the count or share to this power. The defaults are those of CIFAR-100-LT and iNaturalist;
            `PAPER_SETTINGS` has the others.
        relaxation: "softplus" as above, or "hinge", the largest excess over the margin alone, which it bounds.
        count_correct: multiply the sum by the images it stands for over those it has: (n_y - 1) / pairs. The images of
            the batch then estimate the sum over the whole class.
        stop_grad_keys: let only one end of a pair move; those of "memory" and "centroid" never do.
        normalize: "none"; "l2": unit length, so that no squared distance exceeds 4; "scale_by_sqrt_dim": divided by
            sqrt(D), so that a squared distance is a mean over dimensions and not their sum.
        memory_size: most embeddings kept of a class; a class keeps at most all but one. By default, all classes of
            fewer than 20 images keep all they need. C x `memory_size` x D floats in all.
        momentum: of the centroids.
        contract: `weight`, the lambda of the paper, and `ignore_index`, see `EmbeddingLoss`.

    A class of fewer than four images pairs with further copies of its images under "balanced", in other augmentations.
    The memory can not know images again. If the classes are shuffled anew in each pass over the data, some slots hold
    earlier embeddings of the very image they are paired with.

    Raises:
        InputError: for an unknown or impossible option, or if `embedding_dim` is needed and missing.

    Example:
        >>> pull = PullLoss([16, 4], weight=1.0)
        >>> pull(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 1]))  # log(1 + e^(1 - 2)), of two rows in 3
        tensor(0.2088)
    """

    alpha_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        embedding_dim: int | None = None,
        *,
        pairs: Pairs = "batch",
        alpha_of: AlphaOf = "counts",
        alpha_scale: float = 1.0,
        alpha_power: float = 0.5,
        relaxation: Relaxation = "softplus",
        count_correct: bool = False,
        stop_grad_keys: bool = False,
        normalize: Normalize = "none",
        memory_size: int = 20,
        momentum: float = 0.9,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, embedding_dim, **contract)
        _check_names(pairs, alpha_of, relaxation, normalize)
        _check_numbers(alpha_scale, alpha_power, memory_size)
        if count_correct and relaxation == "hinge":
            raise InputError("count_correct mends a sum, and the hinge takes the largest pair alone: leave one out")
        self.pairs, self.relaxation, self.normalize = pairs, relaxation, normalize
        self.count_correct, self.stop_grad_keys = count_correct, stop_grad_keys
        if pairs == "balanced":
            self.stream = Component("ClassAwareSampler", {"per_class": 4})
        if pairs == "memory":
            self.memory = Memory(self.counts_C, self.needed_dim("embeddings of each class"), memory_size)
        if pairs == "centroid":
            dim = self.needed_dim("the centroid of each class")
            self.centroids = Centroids(len(self.counts_C), dim, momentum)
        alpha_C = pull_margins(class_counts, alpha_of, alpha_scale, alpha_power)
        self.register_buffer("alpha_C", alpha_C, persistent=False)

    def per_example(self, embeddings_BD: Tensor, targets_B: Tensor, *extra: Tensor) -> Tensor:
        """Omega of each example, shape (B,); 0 where it has no partner."""
        embeddings_BD = self._normalized(embeddings_BD)
        classes_B = targets_B.clamp(min=0)
        distances_BP, valid_BP = self._pairs(embeddings_BD, targets_B)
        excess_BP = distances_BP - self.alpha_C[classes_B, None]
        if self.count_correct:
            others_B1 = (self.counts_C[classes_B, None] - 1).clamp(min=0)
            excess_BP = excess_BP + (others_B1 / valid_BP.sum(dim=1, keepdim=True).clamp(min=1)).log()
        excess_BP = excess_BP.masked_fill(~valid_BP, -math.inf)
        with_one = torch.cat([torch.zeros_like(excess_BP[:, :1]), excess_BP], dim=1)  # e^0, the one of log(1 + ...)
        return with_one.amax(dim=1) if self.relaxation == "hinge" else with_one.logsumexp(dim=1)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Keep the embeddings of a training batch for later ones."""
        if self.pairs == "memory":
            self.memory.write(self._normalized(embeddings_BD), targets_B)
        elif self.pairs == "centroid":
            self.centroids.update(self._normalized(embeddings_BD), targets_B)

    def _pairs(self, embeddings_BD: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances of each row to its possible partners, and which of them count: both (B, P)."""
        if self.pairs == "centroid":
            means_BD, seen_B = self.centroids.of(targets_B)
            return (embeddings_BD - means_BD).square().sum(dim=1, keepdim=True), seen_B[:, None]
        keys_BD = embeddings_BD.detach() if self.stop_grad_keys else embeddings_BD
        distances_BB, same_BB = squared_distances(embeddings_BD, keys_BD), same_class(targets_B)
        if self.pairs != "memory":
            return distances_BB, same_BB
        earlier_BSD, valid_BS = self.memory.read(targets_B, same_BB.sum(dim=1))
        distances_BS = (embeddings_BD[:, None] - earlier_BSD).square().sum(dim=2)
        return torch.cat([distances_BB, distances_BS], dim=1), torch.cat([same_BB, valid_BS], dim=1)

    def _normalized(self, embeddings_BD: Tensor) -> Tensor:
        if self.normalize == "l2":
            return unit(embeddings_BD)
        return embeddings_BD / embeddings_BD.shape[1] ** 0.5 if self.normalize == "scale_by_sqrt_dim" else embeddings_BD


def _check_names(pairs: str, alpha_of: str, relaxation: str, normalize: str) -> None:
    for kind, name, known in (
        ("way to choose pairs", pairs, get_args(Pairs)),
        ("quantity for alpha_of", alpha_of, get_args(AlphaOf)),
        ("relaxation", relaxation, get_args(Relaxation)),
        ("normalization", normalize, get_args(Normalize)),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)


def _check_numbers(alpha_scale: float, alpha_power: float, memory_size: int) -> None:
    if not (0 <= alpha_scale < math.inf and 0 <= alpha_power < math.inf):
        raise InputError(f"alpha_scale and alpha_power must be finite and >= 0, not {alpha_scale} and {alpha_power}")
    if not isinstance(memory_size, int) or memory_size < 1:
        raise InputError(f"memory_size is a number of embeddings per class, at least 1, not {memory_size}")
