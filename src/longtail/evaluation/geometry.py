"""Geometry of embeddings and logits: intra-class distances, compactness and logit margins.

Figures 3, 4 and 6 of Jitkrittum et al., "ELM: Embedding and Logit Margins for Long-Tail Learning", 2022,
https://arxiv.org/abs/2204.13208. Relative distance: d_max(x) = max over x+ of |Phi(x) - Phi(x+)| / max over x' of
|Phi(x')|, where x+ has the class of x. Logit margin: gamma = f_y - max_{j != y} f_j on raw logits. A regularizer that
shrinks the whole space shrinks every distance, so `compactness` also returns a scale-free ratio.

Shapes: N = examples, D = embedding dimension, C = classes, M = examples of one class.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from longtail.errors import InputError

BLOCK = 2**22
"""Maximum number of distances in memory at a time (32 MB)."""


class Compactness(NamedTuple):
    """Compactness of the classes of a group; each value is a mean over classes, None if no class has the value.

    Attributes:
        max_distance: Distance from an example to the farthest one of its class, averaged over the class.
        mean_distance: Mean distance of two examples of a class.
        centroid_distance: Distance from the centroid of a class to the nearest other centroid.
        ratio: Mean distance over centroid distance; smaller is more compact.
    """

    max_distance: float | None
    mean_distance: float | None
    centroid_distance: float | None
    ratio: float | None


def max_intra_class_distances(embeddings_ND: Tensor, targets_N: Tensor, *, relative: bool = True) -> Tensor:
    """Compute the distance from each example to the farthest one of its class.

    Args:
        embeddings_ND: Embeddings, shape (N, D), any float type; computed in float64.
        targets_N: Labels in [0, C), shape (N,).
        relative: Whether to divide by the largest norm of all embeddings, as in the ELM paper.

    Returns:
        Distances, shape (N,), float64, on the CPU; NaN for the only example of a class.

    Raises:
        InputError: If there is no example, or the shapes do not fit.

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
    """Compute the mean distance of two examples of each class, shape (C,), float64; NaN for fewer than two examples.

    Args:
        embeddings_ND: Embeddings, shape (N, D), any float type.
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.

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
    """Compute the mean embedding of each class, shape (C, D), float64; NaN for a class without an example.

    Args:
        embeddings_ND: Embeddings, shape (N, D), any float type.
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.

    Example:
        >>> class_centroids(torch.tensor([[0.0], [2.0]]), torch.tensor([1, 1]), 2).flatten()
        tensor([nan, 1.], dtype=torch.float64)
    """
    embeddings_ND, targets_N = _checked(embeddings_ND, targets_N)
    sums_CD = embeddings_ND.new_zeros(num_classes, embeddings_ND.shape[1]).index_add(0, targets_N, embeddings_ND)
    return sums_CD / torch.bincount(targets_N, minlength=num_classes)[:, None]


def nearest_centroid_distances(centroids_CD: Tensor) -> Tensor:
    """Compute the distance from each centroid to the nearest other one, shape (C,); NaN if there is none.

    Args:
        centroids_CD: Centroids of `class_centroids`, shape (C, D). Rows of NaN are ignored.

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
        distances.diagonal(start).fill_(torch.inf)  # exclude the distance of a centroid to itself
        nearest_C[present_K[rows]] = distances.amin(dim=1)
    return nearest_C


def compactness(
    embeddings_ND: Tensor, targets_N: Tensor, groups: Mapping[str, Tensor], *, relative: bool = False
) -> dict[str, Compactness]:
    """Compute the compactness of the classes of each group; each class has the same weight.

    Args:
        embeddings_ND: Embeddings, shape (N, D), any float type.
        targets_N: Labels in [0, C), shape (N,).
        groups: Masks of shape (C,) by name, from `shot_groups`, or from `ClassCounts(...).groups(many_closed=True)` for
            the head, torso and tail of the ELM paper.
        relative: Whether to divide all distances by the largest norm of all embeddings. The ratio does not change.

    Raises:
        InputError: If there is no example or no group, or the shapes do not fit.

    Example:
        >>> embeddings, targets = torch.tensor([[0.0], [2.0], [5.0], [6.0]]), torch.tensor([0, 0, 1, 1])
        >>> groups = {"many": torch.tensor([True, False]), "few": torch.tensor([False, True])}
        >>> compactness(embeddings, targets, groups)["few"]
        Compactness(max_distance=1.0, mean_distance=1.0, centroid_distance=4.5, ratio=0.2222222222222222)
    """
    if not groups:
        raise InputError("`groups` must have at least one group of classes, got none; see `shot_groups`")
    num_classes = len(next(iter(groups.values())))
    scale = largest_norm(embeddings_ND) if relative else 1.0
    farthest_N = max_intra_class_distances(embeddings_ND, targets_N, relative=False)
    farthest_C = class_means(farthest_N, targets_N.cpu(), num_classes) / scale
    mean_C = mean_intra_class_distances(embeddings_ND, targets_N, num_classes) / scale
    nearest_C = nearest_centroid_distances(class_centroids(embeddings_ND, targets_N, num_classes)).cpu() / scale
    columns = (farthest_C, mean_C, nearest_C, mean_C / nearest_C)
    return {name: Compactness(*(_mean(values_C[mask_C]) for values_C in columns)) for name, mask_C in groups.items()}


def largest_norm(embeddings_ND: Tensor) -> float:
    """Return the largest norm of the embeddings, the unit of relative distances.

    Args:
        embeddings_ND: Embeddings, shape (N, D).

    Example:
        >>> largest_norm(torch.tensor([[3.0, 4.0], [1.0, 0.0]]))
        5.0
    """
    return float(embeddings_ND.double().norm(dim=1).max())


def logit_margins(logits_NC: Tensor, targets_N: Tensor) -> Tensor:
    """Compute the margin of each example: the logit of its class minus the highest other logit.

    Args:
        logits_NC: Raw logits without an added prior, shape (N, C).
        targets_N: Labels in [0, C), shape (N,).

    Returns:
        Margins, shape (N,), float32, on the CPU; positive for a correct prediction.

    Example:
        >>> logit_margins(torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor([ 2., -3.])
    """
    targets_N = targets_N.to(logits_NC.device)
    best_N2, which_N2 = logits_NC.topk(2, dim=1)
    rival_N = torch.where(which_N2[:, 0] == targets_N, best_N2[:, 1], best_N2[:, 0])
    return (logits_NC.gather(1, targets_N[:, None])[:, 0] - rival_N).float().cpu()


def class_means(values_N: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Compute the mean of a value over the examples of each class, shape (C,), float64; NaN for an absent class.

    Args:
        values_N: One value per example, e.g. a margin, shape (N,).
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.

    Example:
        >>> class_means(torch.tensor([2.0, -3.0, 4.0]), torch.tensor([0, 2, 0]), 3)
        tensor([ 3., nan, -3.], dtype=torch.float64)
    """
    sums_C = torch.bincount(targets_N, values_N.double(), minlength=num_classes)
    return sums_C / torch.bincount(targets_N, minlength=num_classes)


def empirical_cdf(values_N: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the empirical cumulative distribution function of values.

    Args:
        values_N: Values, shape (N,).

    Returns:
        The sorted values, and for each the share in (0, 1] of values that are not larger, each of shape (N,).

    Example:
        >>> empirical_cdf(torch.tensor([2.0, -3.0]))
        (tensor([-3.,  2.]), tensor([0.5000, 1.0000]))
    """
    ordered_N = values_N.sort().values
    return ordered_N, torch.arange(1, len(ordered_N) + 1) / len(ordered_N)


def _mean(values: Tensor) -> float | None:
    present = values[~values.isnan()]
    return float(present.mean()) if len(present) else None


def _blocks(embeddings_ND: Tensor, targets_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield row indices (on the CPU) and their distances to all examples of their class, 0 to themselves."""
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
    """Yield row slices of a square matrix with at most `BLOCK` entries each, and their first rows."""
    height = max(1, BLOCK // num_rows)
    for start in range(0, num_rows, height):
        yield start, slice(start, start + height)


def _checked(embeddings_ND: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    if embeddings_ND.ndim != 2 or len(embeddings_ND) == 0 or targets_N.shape != embeddings_ND.shape[:1]:
        raise InputError(
            "embeddings must have shape (N, D) with N >= 1, and labels shape (N,), got "
            f"{tuple(embeddings_ND.shape)} and {tuple(targets_N.shape)}"
        )
    return embeddings_ND.detach().double(), targets_N.to(embeddings_ND.device)
