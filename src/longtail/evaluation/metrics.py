"""From predicted and true labels to every score that needs no confidence.

All scores but one follow from three numbers per class (`Tally`): so an example may count with any weight, and the 8,142
classes of iNaturalist cost no matrix of 8,142 x 8,142. Values are in percent, and agree with scikit-learn's, which has
no weights for NMI and builds that matrix.

Shapes: N = examples, C = classes.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import unknown_name

Groups = Literal["fixed", "quantile"]

# below this share a variance is rounding error: all targets, or all predictions, are of one class
_NO_VARIANCE = 1e-12


class Tally(NamedTuple):
    """Examples per class, each counted with its weight; three tensors of shape (C,), float64.

    Args:
        hits: examples of the class that were predicted as it.
        actual: examples of the class.
        predicted: examples predicted as the class.
    """

    hits: Tensor
    actual: Tensor
    predicted: Tensor


def tally(predicted_N: Tensor, targets_N: Tensor, num_classes: int, weights_N: Tensor | None = None) -> Tally:
    """Count hits, targets and predictions of each class.

    Args:
        predicted_N: labels in [0, C), on the CPU.
        targets_N: labels in [0, C), on the CPU.
        num_classes: C.
        weights_N: how much each example counts; None counts each once.

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
    """Share of each class's examples that were recognised (its recall), shape (C,); NaN where the test has none.

    Example:
        >>> per_class_accuracy(tally(torch.tensor([0, 1]), torch.tensor([0, 0]), 2))
        tensor([50., nan], dtype=torch.float64)
    """
    return 100 * counts.hits / counts.actual


def top1_accuracy(counts: Tally) -> float:
    """Share of all examples that were recognised."""
    return 100 * float(counts.hits.sum() / counts.actual.sum())


def mean_accuracy(per_class_C: Tensor, members_C: Tensor | None = None) -> float | None:
    """Mean of the per-class accuracies: of all classes balanced accuracy, of a group's the accuracy of the group.

    Every class counts the same, as in the code most papers use (Kang et al., ICLR 2020, `shot_acc`,
    https://github.com/facebookresearch/classifier-balancing). On a balanced test it is the share of the group's
    images that were recognised.

    Args:
        per_class_C: accuracies; a NaN (no example in the test) is left out.
        members_C: which classes; None takes all.

    Returns:
        None where no class of the group is in the test.

    Example:
        >>> mean_accuracy(torch.tensor([80.0, 40.0, torch.nan]))
        60.0
    """
    chosen = per_class_C if members_C is None else per_class_C[members_C]
    present = chosen[~chosen.isnan()]
    return float(present.mean()) if len(present) else None


def worst_accuracy(per_class_C: Tensor) -> float:
    """Accuracy of the class that fares worst, among those in the test."""
    return float(per_class_C[~per_class_C.isnan()].min())


def geometric_mean(per_class_C: Tensor) -> float:
    """Geometric mean of the per-class accuracies (G-mean): 0 as soon as one class is never recognised."""
    return float(per_class_C[~per_class_C.isnan()].log().mean().exp())


def macro_f1(counts: Tally) -> float:
    """Mean F1 of the classes that were in the test or predicted.

    A class that was predicted and is not in the test counts with an F1 of 0, as in scikit-learn.
    """
    seen_C = counts.actual + counts.predicted
    return 100 * float((2 * counts.hits / seen_C)[seen_C > 0].mean())


def matthews_correlation(counts: Tally) -> float:
    """Matthews correlation of many classes (R_K; Gorodkin, 2004), in [-100, 100].

    0 where all targets, or all predictions, are of one class.

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
    """Mutual information of predicted and true labels over the mean of their entropies (NMI).

    The one score here that needs the pairs: arguments as of `tally`. 100 where both are of one class.

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
    """How many examples of each class (row) were predicted as each class (column), shape (C, C), int64.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    pairs = torch.bincount(targets_N * num_classes + predicted_N, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes)


def shot_groups(class_counts: Countable, many: int = 100, few: int = 20, groups: Groups = "fixed") -> dict[str, Tensor]:
    """Which classes are "many", "medium" and "few": masks of shape (C,).

    Args:
        class_counts: training images per class, shape (C,).
        many: a class with more images than this is "many".
        few: a class with fewer images than this is "few".
        groups: "fixed" uses `many` and `few`; "quantile" takes thirds of the classes instead.

    Raises:
        InputError: for another kind of groups, or if `few` exceeds `many`.

    Example:
        >>> shot_groups([500, 50, 5])["medium"]
        tensor([False,  True, False])
    """
    if groups not in get_args(Groups):
        raise unknown_name("kind of groups", groups, get_args(Groups))
    counts = ClassCounts(class_counts)
    return counts.quantile_groups() if groups == "quantile" else counts.groups(many, few)
