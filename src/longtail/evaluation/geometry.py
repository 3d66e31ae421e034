"""How tight the classes lie in the space of the embeddings, and how far apart.

d_max(x) = max over x+ of ||Phi(x) - Phi(x+)|| / max over all x' of ||Phi(x')||, with x+ of the class of x: Figure 4 of
"ELM: Embedding and Logit Margins for Long-Tail Learning" (2022). A regulariser that shrinks the whole space shrinks
every distance, so `compactness` also gives the ratio of distances within a class to that of its nearest neighbour.

Shapes: N = examples, D = embedding dimension, C = classes, M = examples of one class.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.margins import class_means

BLOCK = 2**22
"""Most distances in memory at a time, 32 MB of them."""


class Compactness(NamedTuple):
    """Means over the classes of a group; None where no class has the value.

    Args:
        max_distance: from an example to the farthest of its class, over the examples of a class.
        mean_distance: of the pairs of a class.
        centroid_distance: from the centroid of a class to the nearest other one.
        ratio: of the mean distance of a class to that of its centroid: the smaller, the more compact.
    """

    max_distance: float | None
    mean_distance: float | None
    centroid_distance: float | None
    ratio: float | None


def max_intra_class_distances(embeddings_ND: Tensor, targets_N: Tensor, *, relative: bool = True) -> Tensor:
    """Distance from each example to the farthest one of its class.

    Args:
        embeddings_ND: shape (N, D), any float type; computed in float64.
        targets_N: labels in [0, C).
        relative: divide by the largest norm of all embeddings, as the ELM paper does.

    Returns:
        Shape (N,), float64, on the CPU; NaN for the only example of its class.

    Raises:
        InputError: if there is no example, or the shapes do not fit.

    Example:
        >>> embeddings = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0]])
        >>> max_intra_class_distances(embeddings, torch.tensor([0, 0, 1]))
        tensor([0.5000, 0.5000,    nan], dtype=torch.float64)
    """
    embeddings_ND, targets_N = _checked(embeddings_ND, targets_N)
    max_N = torch.full((len(targets_N),), torch.nan, dtype=torch.float64)
    for rows, distances in _blocks(embeddings_ND, targets_N):
        max_N[rows] = distances.amax(dim=1).cpu()
    return max_N / largest_norm(embeddings_ND) if relative else max_N


def mean_intra_class_distances(embeddings_ND: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Mean distance of the pairs of each class, shape (C,), float64; NaN where it has no pair.

    Args:
        embeddings_ND: shape (N, D), any float type.
        targets_N: labels in [0, C).
        num_classes: C.

    Example:
        >>> mean_intra_class_distances(torch.tensor([[0.0], [1.0], [2.0], [9.0]]), torch.tensor([0, 0, 0, 1]), 2)
        tensor([1.3333,    nan], dtype=torch.float64)
    """
    embeddings_ND, targets_N = _checked(embeddings_ND, targets_N)
    mean_N = torch.full((len(targets_N),), torch.nan, dtype=torch.float64)
    for rows, distances in _blocks(embeddings_ND, targets_N):
        mean_N[rows] = distances.sum(dim=1).cpu() / (distances.shape[1] - 1)
    return class_means(mean_N, targets_N.cpu(), num_classes)


def class_centroids(embeddings_ND: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Mean embedding of each class, shape (C, D), float64; NaN where it has no example.

    Example:
        >>> class_centroids(torch.tensor([[0.0], [2.0]]), torch.tensor([1, 1]), 2).flatten()
        tensor([nan, 1.], dtype=torch.float64)
    """
    embeddings_ND, targets_N = _checked(embeddings_ND, targets_N)
    sums_CD = embeddings_ND.new_zeros(num_classes, embeddings_ND.shape[1]).index_add(0, targets_N, embeddings_ND)
    return sums_CD / torch.bincount(targets_N, minlength=num_classes)[:, None]


def nearest_centroid_distances(centroids_CD: Tensor) -> Tensor:
    """Distance from each centroid to the nearest other one, shape (C,); NaN where there is none.

    Args:
        centroids_CD: from `class_centroids`; a class whose row is NaN is nobody's neighbour.

    Example:
        >>> nearest_centroid_distances(torch.tensor([[0.0], [1.0], [torch.nan], [5.0]]))
        tensor([1., 1., nan, 4.])
    """
    nearest_C = torch.full_like(centroids_CD[:, 0], torch.nan)
    present_K = (~centroids_CD.isnan().any(dim=1)).nonzero().flatten()
    if len(present_K) < 2:
        return nearest_C
    others_KD = centroids_CD[present_K]
    for start, rows in _pieces(len(present_K)):
        distances = torch.cdist(others_KD[rows], others_KD)
        distances.diagonal(start).fill_(torch.inf)  # of a centroid to itself
        nearest_C[present_K[rows]] = distances.amin(dim=1)
    return nearest_C


def compactness(
    embeddings_ND: Tensor, targets_N: Tensor, groups: Mapping[str, Tensor], *, relative: bool = False
) -> dict[str, Compactness]:
    """How compact the classes of each group are; every class of a group counts the same.

    Args:
        embeddings_ND: shape (N, D), any float type.
        targets_N: labels in [0, C).
        groups: masks of shape (C,) by name: of `shot_groups`, or of `ClassCounts(...).groups(many_closed=True)`, which
            are the head, torso and tail of the ELM paper.
        relative: divide all distances by the largest norm of all embeddings; the ratio stays.

    Raises:
        InputError: if there is no example or no group, or the shapes do not fit.

    Example:
        >>> embeddings, targets = torch.tensor([[0.0], [2.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> groups = {"many": torch.tensor([True, False]), "few": torch.tensor([False, True])}
        >>> compactness(embeddings, targets, groups)["few"]
        Compactness(max_distance=1.0, mean_distance=1.0, centroid_distance=4.5, ratio=0.2222222222222222)
    """
    if not groups:
        raise InputError("compactness is told by group of classes, and no group was given; see `shot_groups`")
    num_classes = len(next(iter(groups.values())))
    scale = largest_norm(embeddings_ND) if relative else 1.0
    farthest_N = max_intra_class_distances(embeddings_ND, targets_N, relative=False)
    farthest_C = class_means(farthest_N, targets_N.cpu(), num_classes) / scale
    mean_C = mean_intra_class_distances(embeddings_ND, targets_N, num_classes) / scale
    nearest_C = nearest_centroid_distances(class_centroids(embeddings_ND, targets_N, num_classes)).cpu() / scale
    columns = (farthest_C, mean_C, nearest_C, mean_C / nearest_C)
    return {name: Compactness(*(_mean(values_C[mask_C]) for values_C in columns)) for name, mask_C in groups.items()}


def largest_norm(embeddings_ND: Tensor) -> float:
    """Largest length of an embedding: the unit of relative distances.

    Example:
        >>> largest_norm(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
        5.0
    """
    return float(embeddings_ND.double().norm(dim=1).max())


def _mean(values: Tensor) -> float | None:
    present = values[~values.isnan()]
    return float(present.mean()) if len(present) else None


def _blocks(embeddings_ND: Tensor, targets_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows (on the CPU), and their distances to all of their class (0 to themselves), class by class."""
    counts = torch.bincount(targets_N).tolist()
    for members_M in torch.split(targets_N.argsort(stable=True), counts):
        if len(members_M) < 2:
            continue
        class_MD = embeddings_ND[members_M]
        for start, rows in _pieces(len(members_M)):
            distances = torch.cdist(class_MD[rows], class_MD)
            distances.diagonal(start).fill_(0.0)
            yield members_M[rows].cpu(), distances


def _pieces(num_rows: int) -> Iterator[tuple[int, slice]]:
    """Row slices of a square matrix, none with more than `BLOCK` entries, and where each starts."""
    height = max(1, BLOCK // num_rows)
    for start in range(0, num_rows, height):
        yield start, slice(start, start + height)


def _checked(embeddings_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    if embeddings_ND.ndim != 2 or len(embeddings_ND) == 0 or targets_N.shape != embeddings_ND.shape[:1]:
        raise InputError(
            "the geometry needs embeddings of shape (N, D), N >= 1, and as many labels, "
            f"not shapes {tuple(embeddings_ND.shape)} and {tuple(targets_N.shape)}"
        )
    return embeddings_ND.detach().double(), targets_N.to(embeddings_ND.device)
