"""What is taken for what: the pairs of classes behind the wrong predictions.

Shapes: N = test images, C = classes, P = pairs of classes that were mixed up, at most N.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixup:
    """Images of one class that were taken for another.

    Args:
        true: the class they show.
        taken_for: the class that was predicted.
        images: how many.
    """

    true: int
    taken_for: int
    images: int


def mixups(predicted_N: Tensor, targets_N: Tensor, num_classes: int) -> list[Mixup]:
    """All pairs of classes that were mixed up, the most images first, ties in class order.

    Example:
        >>> mixups(torch.tensor([1, 1, 0, 1]), torch.tensor([0, 0, 1, 1]), num_classes=2)
        [Mixup(true=0, taken_for=1, images=2), Mixup(true=1, taken_for=0, images=1)]
    """
    wrong_N = predicted_N != targets_N
    # one number a pair: a matrix of 8,142 x 8,142 classes would hold 66 million, nearly all zero
    codes = targets_N[wrong_N] * num_classes + predicted_N[wrong_N]
    codes_P, images_P = torch.unique(codes, return_counts=True)
    order_P = images_P.argsort(descending=True, stable=True)
    pairs = zip(codes_P[order_P].tolist(), images_P[order_P].tolist(), strict=True)
    return [Mixup(code // num_classes, code % num_classes, images) for code, images in pairs]


def main_mixups(pairs: list[Mixup]) -> dict[int, Mixup]:
    """For each class with a mistake, what it is most often taken for.

    Args:
        pairs: as `mixups` orders them.

    Example:
        >>> main_mixups([Mixup(0, 2, 9), Mixup(0, 1, 3)])
        {0: Mixup(true=0, taken_for=2, images=9)}
    """
    return {pair.true: pair for pair in reversed(pairs)}


def group_flow(predicted_N: Tensor, targets_N: Tensor, masks: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Where the test images of each group end up, in percent, each class of the group counting the same.

    Args:
        predicted_N: predicted classes.
        targets_N: true classes.
        masks: of the classes of each group, each of shape (C,).

    Returns:
        For each group with test images: "right" (its accuracy), and for each group the share wrongly taken for one of
        its classes. A row sums to 100.

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
    """The classes with the lowest accuracy below 100 %, the rarest first among equals.

    Args:
        per_class: accuracy of each class in percent; None where it has no test image.
        counts_C: training images of each class.
        limit: classes to return at most.

    Example:
        >>> weakest_classes((100.0, 0.0, None, 0.0), torch.tensor([9, 4, 2, 1]), limit=3)
        [3, 1]
    """
    ranked = sorted((value, int(counts_C[label]), label) for label, value in enumerate(per_class) if value is not None)
    return [label for value, _, label in ranked[:limit] if value < 100]


def precision(predicted_N: Tensor, targets_N: Tensor, num_classes: int) -> list[float | None]:
    """Of the images taken for each class, the percentage that show it; None for a class never predicted.

    Example:
        >>> precision(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), num_classes=3)
        [50.0, 100.0, None]
    """
    claimed_C = torch.bincount(predicted_N, minlength=num_classes).tolist()
    right_C = torch.bincount(predicted_N[predicted_N == targets_N], minlength=num_classes).tolist()
    return [100 * right / claimed if claimed else None for right, claimed in zip(right_C, claimed_C, strict=True)]
