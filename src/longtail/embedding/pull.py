"""The pull of ELM (Jitkrittum et al., "ELM: Embedding and Logit Margins for Long-Tail Learning", 2022).

Sec. 3.1: Omega(x, y) = log(1 + sum over x+ of exp(||Phi(x) - Phi(x+)||^2 - alpha_y)), where x+ are the *other* training
images of the class y. Weighted and added to `BalancedSoftmax` it is the objective of the paper, Eq. 4.

The authors have published no code, and the text does not specify which x+ a step uses. The images of the batch hardly
ever include a pair of a rare class: in CIFAR-100-LT with imbalance factor 100, 1 batch in 740 contains two images of
the rarest class. `PullLoss` therefore offers four ways to choose the pairs. The embeddings are not normalized by
default, as Fig. 4 of the paper implies.
Shapes: B = batch, D = embedding dimension, C = classes, P = possible partners of a row.
"""

import math
from collections.abc import Mapping
from typing import Literal, TypedDict, get_args

import torch
from torch import Tensor

from longtail.component import Component
from longtail.data.counts import ClassCounts, Countable
from longtail.embedding.base import EmbeddingLoss
from longtail.embedding.memory import Centroids, Memory
from longtail.embedding.pairs import same_class, squared_distances, unit
from longtail.errors import InputError, unknown_name
from longtail.ranges import check_number

Pairs = Literal["batch", "memory", "balanced", "centroid"]
Relaxation = Literal["softplus", "hinge"]
Normalize = Literal["none", "l2", "scale_by_sqrt_dim"]
AlphaOf = Literal["counts", "prior"]


class PullSettings(TypedDict):
    """Options of `PullLoss` that the paper sets for each data set."""

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
"""Settings of Appendix A.2 by data set: `PullLoss(class_counts, **PAPER_SETTINGS["imagenet-lt"])`."""


def pull_margins(class_counts: Countable, of: AlphaOf, scale: float, power: float) -> Tensor:
    """Return the margin of each class, shape (C,): the squared distance that costs little.

    Args:
        class_counts: Training images per class, shape (C,).
        of: Basis of the margin: "counts" or "prior", the shares of the classes.
        scale: Factor of the margins.
        power: Exponent of the counts or shares.

    Example:
        >>> pull_margins([16, 4], "counts", scale=1.0, power=0.5), pull_margins([16, 4], "prior", 10.0, 1.0)
        (tensor([4., 2.]), tensor([8., 2.]))
    """
    counts = ClassCounts(class_counts)
    amounts_C = counts.counts.float() if of == "counts" else counts.prior
    return scale * amounts_C**power


class PullLoss(EmbeddingLoss):
    """Loss that contracts the embeddings of each class, more tightly for rarer classes.

    A class of fewer than four images pairs with further copies of its images under "balanced", in other augmentations.
    The memory cannot recognize images. If the classes are reshuffled in each pass over the data, some slots hold
    earlier embeddings of the image they are paired with.

    Args:
        class_counts: Training images per class, shape (C,).
        embedding_dim: Embedding dimension, D. Required for the pairs "memory" and "centroid".
        pairs: Partners of an image, in place of all other images of its class. "batch" (default): those of the batch.
            "balanced": those of the batch, but in a second stream of batches that draws four images of a class at a
            time and all classes equally often (see `stream`). "memory": those of the batch, and the most recent of
            earlier batches up to the size of the class. "centroid": a running mean of the class.
        alpha_of: Basis of the margin: "counts" (default) or "prior", the shares of the classes.
        alpha_scale: Factor of the margin, in units of squared distance. Default: 1.
        alpha_power: Exponent of the count or share in the margin. Default: 0.5. The defaults are those of CIFAR-100-LT
            and iNaturalist; `PAPER_SETTINGS` has the others.
        relaxation: "softplus" (default) for the formula above, or "hinge" for the largest excess over the margin, which
            is a lower bound of it.
        count_correct: Whether to multiply the sum by (n_y - 1) / pairs, so that the pairs estimate the sum over the
            whole class. Default: False.
        stop_grad_keys: Whether only one image of a pair receives a gradient. The partners of "memory" and "centroid"
            never do. Default: False.
        normalize: "none" (default); "l2" for unit length, so that squared distances are at most 4; or
            "scale_by_sqrt_dim" to divide by sqrt(D), so that a squared distance is a mean over dimensions.
        memory_size: Maximum number of stored embeddings per class; a class stores at most all but one. The default of
            20 is enough for all classes of fewer than 20 images. The memory holds C x `memory_size` x D floats.
        momentum: Share of a centroid that is kept in a batch with images of its class, in [0, 1). Default: 0.9.
        weight: Factor of the loss, lambda in the paper, see `EmbeddingLoss`.
        ignore_index: Label of the rows to ignore, see `EmbeddingLoss`.

    Raises:
        InputError: If an option is unknown, out of range or incompatible with another one, or `embedding_dim` is
            required and missing.

    Example:
        >>> pull = PullLoss([16, 4], weight=1.0)
        >>> pull(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 1]))  # log(1 + e^(1 - 2)), 2 of 3 rows
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
        weight: float = 0.01,
        ignore_index: int = -100,
    ) -> None:
        super().__init__(class_counts, embedding_dim, weight=weight, ignore_index=ignore_index)
        _check_names(pairs, alpha_of, relaxation, normalize)
        _check_numbers(alpha_scale, alpha_power, memory_size, momentum)
        if count_correct and relaxation == "hinge":
            raise InputError('`count_correct=True` has no effect with `relaxation="hinge"`; set only one of them')
        self.pairs, self.relaxation, self.normalize = pairs, relaxation, normalize
        self.count_correct, self.stop_grad_keys = count_correct, stop_grad_keys
        self.alpha_of, self.alpha_scale, self.alpha_power = alpha_of, alpha_scale, alpha_power
        self.memory_size, self.momentum = memory_size, momentum
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
        """Compute Omega of each example, shape (B,); 0 for an example without a partner."""
        embeddings_BD = self._normalized(embeddings_BD)
        classes_B = targets_B.clamp(min=0)
        distances_BP, valid_BP = self._pairs(embeddings_BD, targets_B)
        excess_BP = distances_BP - self.alpha_C[classes_B, None]
        if self.count_correct:
            others_B1 = (self.counts_C[classes_B, None] - 1).clamp(min=0)
            excess_BP = excess_BP + (others_B1 / valid_BP.sum(dim=1, keepdim=True).clamp(min=1)).log()
        excess_BP = excess_BP.masked_fill(~valid_BP, -math.inf)
        with_one = torch.cat([torch.zeros_like(excess_BP[:, :1]), excess_BP], dim=1)  # e^0 = 1 in log(1 + ...)
        return with_one.amax(dim=1) if self.relaxation == "hinge" else with_one.logsumexp(dim=1)

    def remember(self, embeddings_BD: Tensor, targets_B: Tensor) -> None:
        """Store the embeddings of a training batch for later batches."""
        if self.pairs == "memory":
            self.memory.write(self._normalized(embeddings_BD), targets_B)
        elif self.pairs == "centroid":
            self.centroids.update(self._normalized(embeddings_BD), targets_B)

    def _pairs(self, embeddings_BD: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared distances to possible partners, and a mask of those that count: both (B, P)."""
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


def _check_numbers(alpha_scale: float, alpha_power: float, memory_size: int, momentum: float) -> None:
    check_number("alpha_scale", alpha_scale, at_least=0)
    check_number("alpha_power", alpha_power, at_least=0)
    check_number("memory_size", memory_size, "embeddings per class", integer=True, at_least=1)
    check_number("momentum", momentum, "default: 0.9", at_least=0, below=1)
