"""What a split of the label space has done: who is taken by which level, how pure its clusters are, whom it helps.

The analyses of DLSA (Xu et al., "Constructing Balance from Imbalance for Long-tailed Image Recognition", ECCV 2022,
https://arxiv.org/abs/2208.02567) as functions of plain tensors, so that they serve any splitter. Level m of M takes
some of the examples that the levels before it have left; level M stands for those that none has taken. Shares are in
percent, but for the purity of a cluster.
Shapes: N = examples, C = classes, M = levels, K = clusters, G = groups of classes, P and S = bins of purity and size.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.metrics import confusion_matrix

PURITY_EDGES = (0.0, 0.3, 0.5, 0.7, 0.9)
"""Lower ends of the bins of purity; the last one ends with 1."""
SIZE_EDGES = (1, 11, 101, 1001)
"""Lower ends of the bins of size."""


def purity_histogram(
    sizes_K: Tensor,
    purity_K: Tensor,
    sizes: Sequence[int] = SIZE_EDGES,
    purities: Sequence[float] = PURITY_EDGES,
) -> Tensor:
    """How many clusters are of each size (row) and purity (column), shape (S, P), int64; empty clusters are left out.

    Args:
        sizes_K: examples in each cluster, as `longtail.posthoc.dlsa.flow.objectives.tally_clusters` counts them.
        purity_K: share of the commonest class in each, in [0, 1].
        sizes: lower ends of the bins of size, rising from 1.
        purities: lower ends of the bins of purity, rising from 0; a purity at an end belongs to the bin above it.

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
    """Which part of each group of classes every level takes: a filter that works takes the tail first.

    Args:
        level_N: the level that took each example, in [0, M]; M for what no level took.
        targets_N: its label, in [0, C).
        groups: masks over the classes, shape (C,), by name: "many", "medium", "few", or bins of frequency.
        num_levels: M.

    Returns:
        For each group M + 1 shares in percent, which sum to 100; None where the group has no example.

    Raises:
        InputError: for lengths that differ, or numbers out of range.

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
    """Classes in bins of equally many classes, the fullest first: masks of shape (C,) by their range of counts.

    Raises:
        InputError: if there are not as many classes as bins.

    Example:
        >>> frequency_bins(torch.tensor([5, 500, 50, 20]), 2)
        {'500-50': tensor([False,  True,  True, False]), '20-5': tensor([ True, False, False,  True])}
    """
    if not 1 <= num_bins <= len(class_counts_C):
        raise InputError(f"{len(class_counts_C)} classes fill 1 to {len(class_counts_C)} bins, not {num_bins}")
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
    """Accuracy of several classifiers on the same examples, level by level: is the one made for a level better there?

    Args:
        predicted: labels by each classifier, by its name, shape (N,).
        targets_N: true labels.
        level_N: the level that took each example, in [0, M]; M for what no level took.
        num_levels: M.

    Returns:
        For each classifier M + 1 accuracies in percent; None where a level took nothing.

    Raises:
        InputError: for lengths that differ, or numbers out of range.

    Example:
        >>> predicted = {"aided": torch.tensor([0, 1]), "regular": torch.tensor([0, 0])}
        >>> accuracy_by_level(predicted, torch.tensor([0, 1]), torch.tensor([0, 0]), 1)
        {'aided': (100.0, None), 'regular': (50.0, None)}
    """
    table: dict[str, tuple[float | None, ...]] = {}
    for name, predicted_N in predicted.items():
        if predicted_N.shape != targets_N.shape:
            raise InputError(f"{name} predicts {len(predicted_N)} labels, but there are {len(targets_N)} targets")
        hits_N = (predicted_N.cpu() == targets_N.cpu()).long()
        level, hits = _checked({"levels": (level_N, num_levels + 1), f"hits of {name}": (hits_N, 2)})
        total_M = torch.bincount(level, minlength=num_levels + 1).tolist()
        hits_M = torch.bincount(level, hits.double(), minlength=num_levels + 1).tolist()
        table[name] = tuple(100 * right / n if n else None for right, n in zip(hits_M, total_M, strict=True))
    return table


def group_confusion(predicted_N: Tensor, targets_N: Tensor, groups: Mapping[str, Tensor]) -> Tensor:
    """Which part of the examples of each group of classes (row) is called a class of each group (column), (G, G).

    What the paper's confusion matrices of a thousand classes show: how many images of full classes are called rare, and
    the other way round. The diagonal holds those that stay within their group, rightly called or not; a row is NaN
    where the group has no example.

    Args:
        predicted_N: labels in [0, C).
        targets_N: labels in [0, C).
        groups: masks over the classes, shape (C,), by name; together they hold each class once.

    Raises:
        InputError: for lengths that differ, or numbers out of range.

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
    """By how much each confusion has become more frequent, shape (C, C), classes by falling frequency (Figs. 1-3).

    Args:
        before_N: labels predicted by one classifier.
        after_N: labels predicted by another.
        targets_N: true labels, in [0, C).
        class_counts_C: training images per class.

    Returns:
        For each true class (row) the change of the share that is called each class (column), in percentage points;
        each row sums to 0, and is 0 throughout for a class without an example.

    Raises:
        InputError: for lengths that differ, or numbers out of range.

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
    """The group, 0 or 1, to which an oracle sends each example: the probe of the paper's Figure 2.

    Args:
        targets_N: labels, in [0, C), on the CPU.
        is_head_C: which classes are full; the others are rare.
        separation: p: an example of a full class goes to group 0 with this probability, one of a rare class to group 1.
            0.5 separates nothing, 1 everything.
        generator: of the draw.

    Raises:
        InputError: if `separation` does not lie in [0, 1].

    Example:
        >>> oracle_groups(torch.tensor([0, 1, 0]), torch.tensor([True, False]), 1.0, torch.Generator())
        tensor([0, 1, 0])
    """
    if not 0 <= separation <= 1:
        raise InputError(f"the separation is a probability, 0.5 (none) to 1 (full), not {separation}")
    own_N = (~is_head_C[targets_N]).long()
    sent_right_N = torch.rand(len(targets_N), generator=generator) < separation
    return torch.where(sent_right_N, own_N, 1 - own_N)


def _checked(given: Mapping[str, tuple[Tensor, int]]) -> list[Tensor]:
    """Numbers of levels, clusters or classes, one per example, on the CPU: each with how many there are of them."""
    lengths = {name: len(values_N) for name, (values_N, _) in given.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise InputError(f"each needs one number per example, and at least one example, not {lengths}")
    for name, (values_N, bound) in given.items():
        low, high = int(values_N.min()), int(values_N.max())
        if low < 0 or high >= bound:
            raise InputError(f"{name} must lie in 0 to {bound - 1}, but they go from {low} to {high}")
    return [values_N.long().cpu() for values_N, _ in given.values()]
