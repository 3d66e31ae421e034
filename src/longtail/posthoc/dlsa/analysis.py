"""Analyses of a split of the label space: shares and accuracy by level, cluster purity, confusions between groups.

The analyses of DLSA (Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567) as functions of plain tensors, for any splitter. Level m < M takes some of the
examples that earlier levels have left; level M denotes the examples that no level takes. Shares are in percent, except
the purity of a cluster, which is in [0, 1].

Shapes: N = examples, C = classes, M = levels, K = clusters, G = groups of classes, S and P = bins of size and purity.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.metrics import confusion_matrix

PURITY_EDGES = (0.0, 0.3, 0.5, 0.7, 0.9)
"""Lower edges of the purity bins; the last bin ends at 1."""
SIZE_EDGES = (1, 11, 101, 1001)
"""Lower edges of the size bins."""


def purity_histogram(
    sizes_K: Tensor,
    purity_K: Tensor,
    sizes: Sequence[int] = SIZE_EDGES,
    purities: Sequence[float] = PURITY_EDGES,
) -> Tensor:
    """Count the clusters of each size (row) and purity (column), without empty clusters.

    Args:
        sizes_K: Number of examples in each cluster, see `longtail.posthoc.dlsa.tally_clusters`.
        purity_K: Share of the most frequent class in each cluster, in [0, 1].
        sizes: Lower edges of the size bins, increasing from 1.
        purities: Lower edges of the purity bins, increasing from 0. A purity at an edge belongs to the bin above.

    Returns:
        Counts, shape (S, P), int64.

    Example:
        >>> purity_histogram(torch.tensor([5, 0, 20]), torch.tensor([1.0, 0.0, 0.5]), (1, 11), (0.0, 0.7))
        tensor([[0, 1],
                [1, 0]])
    """
    filled_K = sizes_K > 0
    row_K = torch.bucketize(sizes_K[filled_K], sizes_K.new_tensor(sizes), right=True) - 1
    column_K = torch.bucketize(purity_K[filled_K], purity_K.new_tensor(purities), right=True) - 1
    cells = torch.bincount(row_K * len(purities) + column_K, minlength=len(sizes) * len(purities))
    return cells.view(len(sizes), len(purities))


def shares_by_level(
    level_N: Tensor, targets_N: Tensor, groups: Mapping[str, Tensor], num_levels: int
) -> dict[str, tuple[float | None, ...]]:
    """Compute the share of each group of classes that every level takes. A good filter takes the tail first.

    Args:
        level_N: Level that takes each example, in [0, M]; M for examples that no level takes.
        targets_N: Labels in [0, C), shape (N,).
        groups: Masks over the classes, shape (C,), by name, e.g. "many", "medium", "few".
        num_levels: Number of levels M.

    Returns:
        M + 1 shares in percent for each group, which sum to 100; None if the group has no example.

    Raises:
        InputError: If lengths differ, or a value is out of range.

    Example:
        >>> groups = {"many": torch.tensor([True, False]), "few": torch.tensor([False, True])}
        >>> shares_by_level(torch.tensor([1, 0, 0, 0]), torch.tensor([0, 0, 1, 1]), groups, 1)
        {'many': (50.0, 50.0), 'few': (100.0, 0.0)}
    """
    num_classes = len(next(iter(groups.values())))
    level_N, targets_N = _checked({"levels": (level_N, num_levels + 1), "targets": (targets_N, num_classes)})
    shares: dict[str, tuple[float | None, ...]] = {}
    for name, members_C in groups.items():
        taken_M = torch.bincount(level_N[members_C[targets_N]], minlength=num_levels + 1).double()
        total = float(taken_M.sum())
        shares[name] = tuple(100 * taken / total if total else None for taken in taken_M.tolist())
    return shares


def frequency_bins(class_counts_C: Tensor, num_bins: int) -> dict[str, Tensor]:
    """Split the classes into bins of equally many classes, most frequent first.

    Args:
        class_counts_C: Training images per class, shape (C,).
        num_bins: Number of bins, from 1 to C.

    Returns:
        Masks of shape (C,) by the range of their class counts.

    Raises:
        InputError: If there are fewer classes than bins.

    Example:
        >>> frequency_bins(torch.tensor([5, 500, 50, 20]), 2)
        {'500-50': tensor([False,  True,  True, False]), '20-5': tensor([ True, False, False,  True])}
    """
    if not 1 <= num_bins <= len(class_counts_C):
        raise InputError(f"`num_bins` must be 1 to {len(class_counts_C)}, the number of classes, got {num_bins}")
    bins: dict[str, Tensor] = {}
    for members in class_counts_C.argsort(descending=True, stable=True).tensor_split(num_bins):
        mask_C = torch.zeros(len(class_counts_C), dtype=torch.bool)
        mask_C[members] = True
        name = f"{int(class_counts_C[members[0]])}-{int(class_counts_C[members[-1]])}"
        bins[name if name not in bins else f"{name} ({len(bins) + 1})"] = mask_C
    return bins


def accuracy_by_level(
    predicted: Mapping[str, Tensor], targets_N: Tensor, level_N: Tensor, num_levels: int
) -> dict[str, tuple[float | None, ...]]:
    """Compute the accuracy of several classifiers on the examples of each level.

    Args:
        predicted: Predicted labels of each classifier by name, shape (N,).
        targets_N: True labels, shape (N,).
        level_N: Level that takes each example, in [0, M]; M for examples that no level takes.
        num_levels: Number of levels M.

    Returns:
        M + 1 accuracies in percent for each classifier; None for a level without an example.

    Raises:
        InputError: If lengths differ, or a value is out of range.

    Example:
        >>> predicted = {"aided": torch.tensor([0, 1]), "regular": torch.tensor([0, 0])}
        >>> accuracy_by_level(predicted, torch.tensor([0, 1]), torch.tensor([0, 0]), 1)
        {'aided': (100.0, None), 'regular': (50.0, None)}
    """
    table: dict[str, tuple[float | None, ...]] = {}
    for name, predicted_N in predicted.items():
        if predicted_N.shape != targets_N.shape:
            raise InputError(
                f"{name} has {len(predicted_N)} predicted labels for {len(targets_N)} targets; pass one each"
            )
        hits_N = (predicted_N.cpu() == targets_N.cpu()).long()
        level, hits = _checked({"levels": (level_N, num_levels + 1), f"hits of {name}": (hits_N, 2)})
        total_M = torch.bincount(level, minlength=num_levels + 1).tolist()
        hits_M = torch.bincount(level, hits.double(), minlength=num_levels + 1).tolist()
        table[name] = tuple(100 * right / n if n else None for right, n in zip(hits_M, total_M, strict=True))
    return table


def group_confusion(predicted_N: Tensor, targets_N: Tensor, groups: Mapping[str, Tensor]) -> Tensor:
    """Compute the share of examples of each group of classes (row) predicted as a class of each group (column).

    It summarizes the paper's confusion matrices of a thousand classes: how many images of frequent classes are
    predicted as rare classes, and the reverse. The diagonal includes confusions within a group.

    Args:
        predicted_N: Predicted labels in [0, C), shape (N,).
        targets_N: True labels in [0, C), shape (N,).
        groups: Masks over the classes, shape (C,), by name; each class is in exactly one group.

    Returns:
        Shares in percent, shape (G, G), float64; a row is NaN if the group has no example.

    Raises:
        InputError: If lengths differ, or a value is out of range.

    Example:
        >>> groups = {"many": torch.tensor([True, True, False]), "few": torch.tensor([False, False, True])}
        >>> group_confusion(torch.tensor([1, 2, 2]), torch.tensor([0, 0, 2]), groups)
        tensor([[ 50.,  50.],
                [  0., 100.]], dtype=torch.float64)
    """
    num_classes = len(next(iter(groups.values())))
    predicted_N, targets_N = _checked(
        {"predicted labels": (predicted_N, num_classes), "targets": (targets_N, num_classes)}
    )
    of_class_GC = torch.stack(list(groups.values())).double()
    counts_GG = of_class_GC @ confusion_matrix(predicted_N, targets_N, num_classes).double() @ of_class_GC.T
    return 100 * counts_GG / counts_GG.sum(dim=1, keepdim=True)


def confusion_difference(before_N: Tensor, after_N: Tensor, targets_N: Tensor, class_counts_C: Tensor) -> Tensor:
    """Compute the change of each confusion between two classifiers, classes sorted by decreasing frequency (Figs. 1-3).

    Args:
        before_N: Labels predicted by the first classifier, shape (N,).
        after_N: Labels predicted by the second classifier, shape (N,).
        targets_N: True labels in [0, C), shape (N,).
        class_counts_C: Training images per class, shape (C,).

    Returns:
        Change of the share of each true class (row) predicted as each class (column), in percentage points, shape
        (C, C), float64. Each row sums to 0; the row of a class without an example is 0.

    Raises:
        InputError: If lengths differ, or a value is out of range.

    Example:
        >>> confusion_difference(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([9, 1]))
        tensor([[  0.,   0.],
                [-50.,  50.]], dtype=torch.float64)
    """
    num_classes = len(class_counts_C)
    before_N, after_N, targets_N = _checked(
        {
            "labels predicted before": (before_N, num_classes),
            "labels predicted after": (after_N, num_classes),
            "targets": (targets_N, num_classes),
        }
    )
    shares = []
    for predicted_N in (before_N, after_N):
        counts_CC = confusion_matrix(predicted_N, targets_N, num_classes).double()
        shares.append(100 * counts_CC / counts_CC.sum(dim=1, keepdim=True).clamp(min=1))
    order_C = class_counts_C.argsort(descending=True, stable=True)
    return (shares[1] - shares[0])[order_C][:, order_C]


def oracle_groups(targets_N: Tensor, is_head_C: Tensor, separation: float, generator: torch.Generator) -> Tensor:
    """Assign each example to group 0 or 1 by an oracle of given accuracy, as in the probe of the paper's Figure 2.

    Args:
        targets_N: Labels in [0, C), shape (N,), on the CPU.
        is_head_C: Mask of the head classes, shape (C,); the others are tail classes.
        separation: Probability p that a head example is assigned to group 0 and a tail example to group 1: 0.5 is no
            separation, 1 is full separation.
        generator: Random generator of the draw.

    Returns:
        Groups, int64, shape (N,).

    Raises:
        InputError: If `separation` is not in [0, 1].

    Example:
        >>> oracle_groups(torch.tensor([0, 1, 0]), torch.tensor([True, False]), 1.0, torch.Generator())
        tensor([0, 1, 0])
    """
    if not 0 <= separation <= 1:
        raise InputError(f"`separation` must be a probability, 0.5 (none) to 1 (full), got {separation}")
    own_N = (~is_head_C[targets_N]).long()
    sent_right_N = torch.rand(len(targets_N), generator=generator) < separation
    return torch.where(sent_right_N, own_N, 1 - own_N)


def _checked(given: Mapping[str, tuple[Tensor, int]]) -> list[Tensor]:
    """Return indices (of levels or classes, one per example) as int64 on the CPU, checked against their bounds."""
    lengths = {name: len(values_N) for name, (values_N, _) in given.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise InputError(f"inputs must have one value for each of N >= 1 examples, got {lengths}")
    for name, (values_N, bound) in given.items():
        low, high = int(values_N.min()), int(values_N.max())
        if low < 0 or high >= bound:
            raise InputError(f"{name} must be in 0 to {bound - 1}, got {low} to {high}")
    return [values_N.long().cpu() for values_N, _ in given.values()]
