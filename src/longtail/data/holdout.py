"""How many images of each class are held out for the test and for choices, where the data bring no such part.

Shapes: C = classes.
"""

from torch import Tensor

from longtail.errors import InputError

TEST_SHARE = 0.2
LARGEST_SHARE = 1 / 3
ENOUGH_FOR_ONE = 5


def test_quota(counts_C: Tensor, per_class: int | None) -> Tensor:
    """Images of each class to hold out for a balanced test part.

    The same number of every class: a fifth of the median class, but no more than a third of the rarest one, whose
    training images are worth most, and at least one. A class keeps at least one training image: one that is too
    small for the number gives what it can, one with a single image nothing.

    Args:
        counts_C: images of each class.
        per_class: how many to hold out instead; None chooses.

    Returns:
        int64 (C,).

    Raises:
        InputError: if `per_class` is less than one, or nothing can be held out.

    Example:
        >>> import torch
        >>> test_quota(torch.tensor([500, 50, 9, 1]), None), test_quota(torch.tensor([500, 50, 30]), None)
        (tensor([1, 1, 1, 0]), tensor([10, 10, 10]))
    """
    if per_class is not None and per_class < 1:
        raise InputError(f"data.test_per_class must be at least 1, not {per_class}")
    if int(counts_C.max()) < 2:
        raise InputError("every class has a single image, so that no test part can be held out; give a test part")
    chosen = min(int(TEST_SHARE * float(counts_C.median())), int(LARGEST_SHARE * int(counts_C.min())))
    wanted = max(1, chosen) if per_class is None else per_class
    return (counts_C - 1).clamp(min=0, max=wanted)


def val_quota(counts_C: Tensor, share: float) -> Tensor:
    """Images of each class to hold out of the training part for choices.

    Args:
        counts_C: training images of each class.
        share: of each class, in [0, 1), rounded; at least one image of a class of five, never the whole class.

    Returns:
        int64 (C,).

    Raises:
        InputError: if `share` is out of range.

    Example:
        >>> import torch
        >>> val_quota(torch.tensor([100, 5, 4]), 0.1)
        tensor([10,  1,  0])
    """
    if not 0 <= share < 1:
        raise InputError(f"data.val_share must be at least 0 and less than 1, not {share}")
    if share == 0:
        return counts_C * 0
    wanted_C = (counts_C * share).round().long().maximum((counts_C >= ENOUGH_FOR_ONE).long())
    return wanted_C.minimum((counts_C - 1).clamp(min=0))
