"""Confused classes: pairs of true and predicted class among the wrong predictions.

Shapes: N = test images, C = classes, P = confused pairs, at most N.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were predicted as another.

    Args:
        true: True class.
        predicted: Predicted class.
        images: Number of images.
    """

    true: int
    predicted: int
    images: int


def confusions(predicted_N: Tensor, targets_N: Tensor, num_classes: int) -> list[Confusion]:
    """Count the images of all confused pairs: most images first, ties in class order.

    Example:
        >>> confusions(torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 1, 1]), num_classes=2)
        [Confusion(true=0, predicted=1, images=2), Confusion(true=1, predicted=0, images=1)]
    """
    wrong_N = predicted_N != targets_N
    # one code per pair: a matrix of 8,142 x 8,142 classes would hold 66 million entries, nearly all zero
    codes = targets_N[wrong_N] * num_classes + predicted_N[wrong_N]
    codes_P, images_P = torch.unique(codes, return_counts=True)
    order_P = images_P.argsort(descending=True, stable=True)
    pairs = zip(codes_P[order_P].tolist(), images_P[order_P].tolist(), strict=True)
    return [Confusion(code // num_classes, code % num_classes, images) for code, images in pairs]


def main_confusions(pairs: list[Confusion]) -> dict[int, Confusion]:
    """Return the most frequent confusion of each class that has one.

    Args:
        pairs: Pairs in the order of `confusions`.

    Example:
        >>> main_confusions([Confusion(0, 2, 9), Confusion(0, 1, 3)])
        {0: Confusion(true=0, predicted=2, images=9)}
    """
    return {pair.true: pair for pair in reversed(pairs)}


def group_flow(predicted_N: Tensor, targets_N: Tensor, masks: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Compute which groups the test images of each group are predicted as. Each class of a group has equal weight.

    Args:
        predicted_N: Predicted classes.
        targets_N: True classes.
        masks: Members of each group, each of shape (C,).

    Returns:
        Percentages for each group with test images: "right" (the group's accuracy), and for each group the share that
        was wrongly predicted as one of its classes. A row sums to 100.

    Example:
        >>> masks = {"many": torch.tensor([True, False]), "few": torch.tensor([False, True])}
        >>> group_flow(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), masks)["few"]
        {'right': 50.0, 'many': 50.0, 'few': 0.0}
    """
    right_N = predicted_N == targets_N
    images_C = torch.bincount(targets_N, minlength=len(next(iter(masks.values()))))
    flow = {}
    for name, mask_C in masks.items():
        own_N = mask_C[targets_N]
        if not own_N.any():
            continue
        weights_N = own_N.double() / images_C[targets_N]
        weights_N *= 100 / weights_N.sum()
        flow[name] = {"right": float(weights_N[right_N].sum())}
        for other, other_C in masks.items():
            flow[name][other] = float(weights_N[other_C[predicted_N] & ~right_N].sum())
    return flow


def weakest_classes(per_class: tuple[float | None, ...], counts_C: Tensor, limit: int) -> list[int]:
    """Return the classes with the lowest accuracy below 100 %, ties with the least frequent class first.

    Args:
        per_class: Accuracy of each class in percent; None for a class without test images.
        counts_C: Training images of each class.
        limit: Maximum number of classes.

    Example:
        >>> weakest_classes((100.0, 0.0, None, 0.0), torch.tensor([9, 4, 2, 1]), limit=3)
        [3, 1]
    """
    ranked = sorted((value, int(counts_C[label]), label) for label, value in enumerate(per_class) if value is not None)
    return [label for value, _, label in ranked[:limit] if value < 100]


def precision(predicted_N: Tensor, targets_N: Tensor, num_classes: int) -> list[float | None]:
    """Compute the precision of each class in percent; None for a class that is never predicted.

    Example:
        >>> precision(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), num_classes=3)
        [50.0, 100.0, None]
    """
    predicted_C = torch.bincount(predicted_N, minlength=num_classes).tolist()
    right_C = torch.bincount(predicted_N[predicted_N == targets_N], minlength=num_classes).tolist()
    return [100 * right / total if total else None for right, total in zip(right_C, predicted_C, strict=True)]
