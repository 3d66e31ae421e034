"""Scores of predicted labels, without confidences.

All scores except NMI are functions of three numbers per class (`Tally`). Examples may therefore have weights, and the
8,142 classes of iNaturalist need no matrix of 8,142 x 8,142. Values are in percent and agree with scikit-learn, which
has no weights for NMI and builds that matrix.

Shapes: N = examples, C = classes.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import unknown_name

Groups = Literal["fixed", "quantile"]

# a variance below this is rounding error: all targets, or all predictions, are of one class
_NO_VARIANCE = 1e-12


class Tally(NamedTuple):
    """Weighted number of examples per class; three tensors of shape (C,), float64.

    Attributes:
        hits: Examples of the class that are predicted as the class.
        actual: Examples of the class.
        predicted: Examples predicted as the class.
    """

    hits: Tensor
    actual: Tensor
    predicted: Tensor


def tally(predicted_N: Tensor, targets_N: Tensor, num_classes: int, weights_N: Tensor | None = None) -> Tally:
    """Count hits, targets and predictions of each class.

    Args:
        predicted_N: Predicted labels in [0, C), shape (N,), on the CPU.
        targets_N: True labels in [0, C), shape (N,), on the CPU.
        num_classes: Number of classes C.
        weights_N: Weight of each example, shape (N,). None (default) weights them equally.

    Example:
        >>> tally(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2).hits
        tensor([1., 1.], dtype=torch.float64)
    """
    weights_N = torch.ones(len(targets_N), dtype=torch.float64) if weights_N is None else weights_N.double()
    return Tally(
        hits=torch.bincount(targets_N, weights_N * (predicted_N == targets_N), minlength=num_classes),
        actual=torch.bincount(targets_N, weights_N, minlength=num_classes),
        predicted=torch.bincount(predicted_N, weights_N, minlength=num_classes),
    )


def per_class_accuracy(counts: Tally) -> Tensor:
    """Compute the accuracy (recall) of each class, shape (C,); NaN for a class without a test example.

    Args:
        counts: Counts of `tally`.

    Example:
        >>> per_class_accuracy(tally(torch.tensor([0, 1]), torch.tensor([0, 0]), 2))
        tensor([50., nan], dtype=torch.float64)
    """
    return 100 * counts.hits / counts.actual


def top1_accuracy(counts: Tally) -> float:
    """Compute the share of correct predictions.

    Args:
        counts: Counts of `tally`.

    Example:
        >>> top1_accuracy(tally(torch.tensor([0, 1]), torch.tensor([0, 0]), 2))
        50.0
    """
    return 100 * float(counts.hits.sum() / counts.actual.sum())


def within_top_k(logits_NC: Tensor, targets_N: Tensor, k: int) -> Tensor:
    """Return whether the true class is among the k largest logits.

    Of equal logits the smaller label comes first, so that k = 1 agrees with `argmax`.

    Args:
        logits_NC: Logits, shape (N, C).
        targets_N: Labels in [0, C), shape (N,).
        k: Number of classes that count as a hit, >= 1.

    Returns:
        Hits, bool, shape (N,), on the device of the labels.

    Example:
        >>> within_top_k(torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]]), torch.tensor([2, 2]), 2)
        tensor([ True, False])
    """
    labels_C = torch.arange(logits_NC.shape[1], device=logits_NC.device)
    hits = []
    # in parts, because the comparisons need three times the memory of a mask of all logits
    parts = zip(torch.split(logits_NC, 4096), torch.split(targets_N.to(logits_NC.device), 4096), strict=True)
    for part_BC, targets_B in parts:
        own_B1 = part_BC.gather(1, targets_B[:, None])
        ahead_BC = (part_BC > own_B1) | ((part_BC == own_B1) & (labels_C < targets_B[:, None]))
        hits.append(ahead_BC.sum(1) < k)
    return torch.cat(hits).to(targets_N.device)


def weighted_share(hits_N: Tensor, weights_N: Tensor | None = None) -> float:
    """Compute the weighted share of hits, in percent.

    Args:
        hits_N: Hits, bool, shape (N,).
        weights_N: Example weights, shape (N,). None (default) weights all examples equally.

    Example:
        >>> weighted_share(torch.tensor([True, False]), torch.tensor([3.0, 1.0]))
        75.0
    """
    if weights_N is None:
        return 100 * float(hits_N.double().mean())
    return 100 * float((hits_N * weights_N).sum() / weights_N.sum())


def mean_accuracy(per_class_C: Tensor, members_C: Tensor | None = None) -> float | None:
    """Compute the mean per-class accuracy: balanced accuracy, or the accuracy of a group of classes.

    Every class has the same weight, as in the code that most papers use (Kang et al., ICLR 2020, `shot_acc`,
    https://github.com/facebookresearch/classifier-balancing). On a class-balanced test set it equals the share of
    correct predictions of the group.

    Args:
        per_class_C: Accuracy of each class, shape (C,). NaN (no test example) is ignored.
        members_C: Mask of the group, bool, shape (C,). None (default) takes all classes.

    Returns:
        The mean; None if no class of the group has a test example.

    Example:
        >>> mean_accuracy(torch.tensor([80.0, 40.0, torch.nan]))
        60.0
    """
    chosen = per_class_C if members_C is None else per_class_C[members_C]
    present = chosen[~chosen.isnan()]
    return float(present.mean()) if len(present) else None


def worst_accuracy(per_class_C: Tensor) -> float:
    """Return the lowest per-class accuracy.

    Args:
        per_class_C: Accuracy of each class, shape (C,). NaN (no test example) is ignored.

    Example:
        >>> worst_accuracy(torch.tensor([80.0, 40.0, torch.nan]))
        40.0
    """
    return float(per_class_C[~per_class_C.isnan()].min())


def geometric_mean(per_class_C: Tensor) -> float:
    """Compute the geometric mean of the per-class accuracies (G-mean): 0 if the accuracy of any class is 0.

    Args:
        per_class_C: Accuracy of each class, shape (C,). NaN (no test example) is ignored.

    Example:
        >>> round(geometric_mean(torch.tensor([80.0, 20.0])), 4)
        40.0
    """
    return float(per_class_C[~per_class_C.isnan()].log().mean().exp())


def macro_f1(counts: Tally) -> float:
    """Compute the mean F1 over the classes that have a test example or are predicted.

    A class that is predicted but has no test example has an F1 of 0, as in scikit-learn.

    Args:
        counts: Counts of `tally`.

    Example:
        >>> round(macro_f1(tally(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]), 2)), 2)
        73.33
    """
    seen_C = counts.actual + counts.predicted
    return 100 * float((2 * counts.hits / seen_C)[seen_C > 0].mean())


def matthews_correlation(counts: Tally) -> float:
    """Compute the multiclass Matthews correlation coefficient, in [-100, 100].

    Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", Computational Biology and
    Chemistry 2004 (R_K). It is 0 if all targets, or all predictions, are of one class.

    Args:
        counts: Counts of `tally`.

    Example:
        >>> round(matthews_correlation(tally(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 0]), 2)), 2)
        57.74
    """
    total = counts.actual.sum()
    accuracy, actual_C, predicted_C = counts.hits.sum() / total, counts.actual / total, counts.predicted / total
    actual_variance, predicted_variance = 1 - (actual_C**2).sum(), 1 - (predicted_C**2).sum()
    if min(actual_variance, predicted_variance) < _NO_VARIANCE:
        return 0.0
    covariance = accuracy - (actual_C * predicted_C).sum()
    return 100 * float(covariance / (actual_variance * predicted_variance).sqrt())


def normalized_mutual_information(
    predicted_N: Tensor, targets_N: Tensor, num_classes: int, weights_N: Tensor | None = None
) -> float:
    """Compute the normalized mutual information (NMI): mutual information over the mean of both entropies.

    It is 100 if all targets and all predictions are of one class. This score needs the pairs of labels, not only the
    counts of `tally`.

    Args:
        predicted_N: Predicted labels in [0, C), shape (N,), on the CPU.
        targets_N: True labels in [0, C), shape (N,), on the CPU.
        num_classes: Number of classes C.
        weights_N: Weight of each example, shape (N,). None (default) weights them equally.

    Example:
        >>> normalized_mutual_information(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), 2)
        100.0
    """
    counts = tally(predicted_N, targets_N, num_classes, weights_N)
    _, pair_N = torch.unique(targets_N * num_classes + predicted_N, return_inverse=True)
    entropy_targets, entropy_predicted = _entropy(counts.actual), _entropy(counts.predicted)
    entropy_pairs = _entropy(torch.bincount(pair_N, weights_N))
    mean_entropy = (entropy_targets + entropy_predicted) / 2
    if mean_entropy < _NO_VARIANCE:
        return 100.0
    information = entropy_targets + entropy_predicted - entropy_pairs
    return 100 * min(max(information / mean_entropy, 0.0), 1.0)


def _entropy(amounts: Tensor) -> float:
    return float(torch.special.entr(amounts.double() / amounts.sum()).sum())


def confusion_matrix(predicted_N: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Count the examples of each class (row) predicted as each class (column), shape (C, C), int64.

    Args:
        predicted_N: Predicted labels in [0, C), shape (N,).
        targets_N: True labels in [0, C), shape (N,).
        num_classes: Number of classes C.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    pairs = torch.bincount(targets_N * num_classes + predicted_N, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes)


def shot_groups(class_counts: Countable, many: int = 100, few: int = 20, groups: Groups = "fixed") -> dict[str, Tensor]:
    """Group the classes into "many", "medium" and "few" by their number of training images.

    Args:
        class_counts: Training images per class, shape (C,).
        many: A class with more images than this is "many"; default 100.
        few: A class with fewer images than this is "few"; default 20.
        groups: "fixed" (default) uses `many` and `few`; "quantile" takes thirds of the classes by rank instead.

    Returns:
        Masks of shape (C,) by name.

    Raises:
        InputError: For another kind of groups, or if `few` exceeds `many`.

    Example:
        >>> shot_groups([500, 50, 5])["medium"]
        tensor([False,  True, False])
    """
    if groups not in get_args(Groups):
        raise unknown_name("kind of groups", groups, get_args(Groups))
    counts = ClassCounts(class_counts)
    return counts.quantile_groups() if groups == "quantile" else counts.groups(many, few)
