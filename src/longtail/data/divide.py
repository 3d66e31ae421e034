"""Hold out the parts that own images do not bring, and cut a long tail from what is left to train on.

Shapes: N = images of all parts, C = classes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import balanced_holdout
from longtail.data.profiles import long_tailed_counts, long_tailed_indices
from longtail.errors import InputError

TEST_SHARE = 0.2
LARGEST_SHARE = 1 / 3
ENOUGH_FOR_ONE = 5

Rows = Mapping[str, Tensor]
"""Indices into the images of all parts, by "train", "val" and "test"."""


def divide(rows: Rows, targets_N: Tensor, class_names: tuple[str, ...], config: DataConfig) -> tuple[Rows, list[str]]:
    """Complete the parts: test first, then the long tail, then validation, so that each sees what it should.

    Args:
        rows: the parts that the data bring, "train" among them.
        targets_N: labels of all images.
        class_names: C names.
        config: `test_per_class`, `imbalance_factor`, `profile`, `val_share` and `seed` are used; `check_division` has
            passed.

    Returns:
        The rows of all parts, and a sentence on each thing done to them.

    Raises:
        InputError: if the classes are too small for what is asked.
    """
    notes: list[str] = []
    if "test" not in rows:
        quota_C = quota_for_test(_counts(rows["train"], targets_N, class_names), config.test_per_class)
        rows = _held_out(rows, "test", targets_N, quota_C, config.seed)
        notes += _test_notes(len(rows["test"]), quota_C, class_names)
    untested_C = _counts(rows["test"], targets_N, class_names) == 0
    if bool(untested_C.any()):
        notes.append(
            f"{int(untested_C.sum()):,} of {len(class_names):,} classes have no test image: "
            f"{_named(class_names, untested_C)}."
        )
    if config.imbalance_factor is not None:
        available_C = _counts(rows["train"], targets_N, class_names)
        rows = _long_tailed(rows, targets_N, available_C, config)
        notes += _tail_notes(len(rows["train"]), available_C, config)
    quota_C = quota_for_val(_counts(rows["train"], targets_N, class_names), config.val_share)
    if "val" not in rows and bool(quota_C.any()):
        rows = _held_out(rows, "val", targets_N, quota_C, config.seed)
        notes.append(f"{len(rows['val']):,} training images were held out for choices.")
    return rows, notes


def check_division(config: DataConfig) -> None:
    """Refuse settings that cannot be met, before any image is read.

    Raises:
        InputError: if `test_per_class`, `val_share` or `imbalance_factor` is out of range.

    Example:
        >>> check_division(DataConfig(val_share=1.0))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: --val-share must be at least 0 and less than 1, not 1.0
    """
    if config.test_per_class is not None and config.test_per_class < 1:
        raise InputError(f"--set data.test_per_class=N needs N of at least 1, not {config.test_per_class}")
    if not 0 <= config.val_share < 1:
        raise InputError(f"--val-share must be at least 0 and less than 1, not {config.val_share}")
    if config.imbalance_factor is not None and config.imbalance_factor < 1:
        raise InputError(f"--imbalance-factor must be at least 1, not {config.imbalance_factor}")


def quota_for_test(counts_C: Tensor, per_class: int | None) -> Tensor:
    """Images of each class to hold out for a balanced test part.

    The same number of every class: a fifth of the median class, but no more than a third of the rarest one, whose
    training images are worth most, and at least one. A class keeps at least one training image: one that is too
    small for the number gives what it can, one with a single image nothing.

    Args:
        counts_C: images of each class.
        per_class: how many to hold out instead, >= 1; None chooses.

    Returns:
        int64 (C,).

    Raises:
        InputError: if no class has more than one image.

    Example:
        >>> quota_for_test(torch.tensor([500, 50, 30]), None), quota_for_test(torch.tensor([500, 50, 9, 1]), None)
        (tensor([10, 10, 10]), tensor([1, 1, 1, 0]))
    """
    if int(counts_C.max()) < 2:
        raise InputError("every class has a single image, so that no test part can be held out; give a test part")
    chosen = min(int(TEST_SHARE * int(counts_C.median())), int(LARGEST_SHARE * int(counts_C.min())))
    wanted = max(1, chosen) if per_class is None else per_class
    return (counts_C - 1).clamp(min=0, max=wanted)


def quota_for_val(counts_C: Tensor, share: float) -> Tensor:
    """Images of each class to hold out of the training part for choices.

    Args:
        counts_C: training images of each class.
        share: of each class, in [0, 1), rounded; at least one image of a class of five, never the whole class.

    Returns:
        int64 (C,).

    Example:
        >>> quota_for_val(torch.tensor([100, 5, 4]), 0.1)
        tensor([10,  1,  0])
    """
    if share == 0:
        return torch.zeros_like(counts_C)
    wanted_C = (counts_C * share).round().long().maximum((counts_C >= ENOUGH_FOR_ONE).long())
    return wanted_C.minimum((counts_C - 1).clamp(min=0))


def held_out_suffix(config: DataConfig) -> str:
    """What a hold-out adds to the name of a split: fewer images are trained on, so it is another one.

    Example:
        >>> held_out_suffix(DataConfig(val_share=0.1)), held_out_suffix(DataConfig())
        ('-val0.1', '')
    """
    return f"-val{config.val_share:g}" if config.val_share else ""


def _counts(rows: Tensor, targets_N: Tensor, class_names: tuple[str, ...]) -> Tensor:
    return torch.bincount(targets_N[rows], minlength=len(class_names))


def _held_out(rows: Rows, part: str, targets_N: Tensor, quota_C: Tensor, seed: int) -> Rows:
    """Move the quota of each class from the training part to another."""
    kept, held = balanced_holdout(targets_N[rows["train"]], len(quota_C), quota_C, seed)
    return {**rows, "train": rows["train"][kept], part: rows["train"][held]}


def _test_notes(images: int, quota_C: Tensor, class_names: tuple[str, ...]) -> list[str]:
    most = int(quota_C.max())
    notes = [
        f"The data bring no test part: a balanced one of {images:,} images, {most} per class, was held out of the "
        "training images (--set data.test_per_class=N sets the number)."
    ]
    short_C = (quota_C < most) & (quota_C > 0)
    if bool(short_C.any()):
        notes.append(
            f"{int(short_C.sum()):,} classes have too few images to give {most} and gave what they could, so that the "
            f"test part is not quite balanced: {_named(class_names, short_C)}."
        )
    return notes


def _long_tailed(rows: Rows, targets_N: Tensor, available_C: Tensor, config: DataConfig) -> Rows:
    """Keep the largest long tail that the classes can give; a class with more images than another keeps as many."""
    assert config.imbalance_factor is not None
    # stable: of classes with equally many images, the first label stays the fullest, as in the published cuts
    ranked_C, order_C = available_C.sort(descending=True, stable=True)
    for fullest in range(int(ranked_C[0]), 0, -1):
        kept_C = long_tailed_counts(fullest, len(ranked_C), config.imbalance_factor, config.profile)
        if bool((kept_C <= ranked_C).all()):
            break
    wanted_C = torch.empty_like(kept_C)
    wanted_C[order_C] = kept_C
    return {**rows, "train": rows["train"][long_tailed_indices(targets_N[rows["train"]], wanted_C)]}


def _tail_notes(left: int, available_C: Tensor, config: DataConfig) -> list[str]:
    whole, factor = int(available_C.sum()), config.imbalance_factor
    notes = [
        f"A long tail with imbalance factor {factor:g} ({config.profile}) was cut from the training images: {left:,} "
        f"of {whole:,} are left."
    ]
    fullest, rarest = int(available_C.max()), int(available_C.min())
    if 2 * left < whole and factor is not None and fullest > factor * rarest:
        notes.append(
            f"{whole - left:,} training images were left out because the data have a longer tail of their own "
            f"({fullest:,} images of the fullest class to {rarest:,} of the rarest) than was asked for: no class may "
            f"have more than about {factor:g} times the images of the rarest. Without --imbalance-factor all are kept."
        )
    return notes


def _named(class_names: tuple[str, ...], mask_C: Tensor) -> str:
    return first_few([class_names[label] for label in mask_C.nonzero().flatten().tolist()])


def first_few(items: list[str]) -> str:
    """A list for a note: the first three, and how many more.

    Example:
        >>> first_few(["ant", "bee", "cat", "dog"])
        'ant, bee, cat and 1 more'
    """
    return ", ".join(items[:3]) + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")
