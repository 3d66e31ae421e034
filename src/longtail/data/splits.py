"""Long-tailed subsets of balanced data, and held-out test and validation splits.

The exponential and step profiles, the truncation to whole images and the choice of images follow the code of
LDAM-DRW (Cao et al., NeurIPS 2019, https://github.com/kaidic/LDAM-DRW), whose CIFAR-LT subset most papers use. The
Pareto profile is that of OLTR (Liu et al., CVPR 2019), which drew ImageNet-LT and Places-LT with alpha = 6. No profile
reproduces those two: use the released lists.

Shapes: N = images, C = classes.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from longtail.data.grouped import grouped_holdout
from longtail.errors import InputError, unknown_name

TEST_SHARE = 0.2
LARGEST_TEST_SHARE = 1 / 3
MIN_COUNT_FOR_VAL = 5
FEWEST_TESTED = 5
"""With fewer test images of a class, the standard error of its accuracy can exceed 22 points."""

Profile = Literal["exp", "step", "pareto"]

Rows = Mapping[str, Tensor]
"""Indices of the images of each split, under "train", "val" and "test"."""


def long_tailed_counts(
    num_max: int,
    num_classes: int,
    imbalance_factor: float,
    profile: Profile = "exp",
    *,
    alpha: float = 6.0,
) -> Tensor:
    """Compute the class counts of a long-tailed subset, most frequent class first.

    Args:
        num_max: Images of the most frequent class.
        num_classes: C, at least two.
        imbalance_factor: Largest count divided by the smallest count, >= 1.
        profile: "exp" decreases geometrically. "step" keeps the first half of the classes at the maximum and puts the
            second half at the minimum. "pareto" follows the quantiles of a Pareto distribution, rescaled to end at the
            minimum.
        alpha: Shape of the Pareto distribution. A smaller value gives a heavier tail.

    Returns:
        Counts of shape (C,), truncated to whole images as in the LDAM-DRW code.

    Raises:
        InputError: If an argument is out of range, or a class would have no image.

    Example:
        >>> long_tailed_counts(500, 5, 100)
        tensor([500, 158,  50,  15,   5])
        >>> long_tailed_counts(500, 4, 10, "step")
        tensor([500, 500,  50,  50])
    """
    if num_classes < 2 or num_max < 1 or imbalance_factor < 1 or alpha <= 0:
        raise InputError(
            "a long-tailed profile needs num_classes >= 2, num_max >= 1, imbalance_factor >= 1 and alpha > 0, "
            f"got {num_classes}, {num_max}, {imbalance_factor} and {alpha}"
        )
    if profile not in get_args(Profile):
        raise unknown_name("profile", profile, get_args(Profile))
    smallest = 1 / imbalance_factor
    # Python floats, as in the authors' code: another order of operations changes a truncated count by one
    if profile == "exp":
        shares = [smallest ** (c / (num_classes - 1.0)) for c in range(num_classes)]
    elif profile == "step":
        shares = [1.0 if c < num_classes // 2 else smallest for c in range(num_classes)]
    else:
        shares = _pareto_shares(num_classes, smallest, alpha)
    counts = torch.tensor([int(num_max * share) for share in shares])
    if int(counts.min()) < 1:
        raise InputError(
            f"imbalance factor {imbalance_factor:g} leaves no image for the rarest class if the most frequent one has "
            f"{num_max}; use a smaller `imbalance_factor`"
        )
    return counts


def _pareto_shares(num_classes: int, smallest: float, alpha: float) -> list[float]:
    """Return quantiles of a Pareto distribution, scaled to give the first class 1 and the last one `smallest`."""
    steps = [(c + 1) / (num_classes + 1) for c in range(num_classes)]
    raw = [step ** (-1 / alpha) for step in steps]
    return [smallest + (1 - smallest) * (value - raw[-1]) / (raw[0] - raw[-1]) for value in raw]


def long_tailed_indices(labels: Tensor, counts: Tensor, seed: int = 0) -> Tensor:
    """Choose the images of a long-tailed subset by the LDAM protocol ("ldam-seed0" with the default seed).

    Args:
        labels: Labels of the full set, shape (N,).
        counts: Images to keep of each class, shape (C,).
        seed: Seed of the legacy NumPy generator.

    Returns:
        Indices into `labels`, grouped by class and shuffled within each class. Shape (sum of counts,).

    Raises:
        InputError: If a class has fewer images than requested.

    Example:
        >>> long_tailed_indices(torch.tensor([0, 1, 0, 1, 0]), torch.tensor([2, 1]))
        tensor([4, 2, 1])
    """
    rng = np.random.RandomState(seed)
    labels_N = labels.cpu().numpy()
    kept = []
    for label, count in enumerate(counts.tolist()):
        members = np.where(labels_N == label)[0]
        if len(members) < count:
            raise InputError(f"class {label} has {len(members)} images, fewer than the {count} requested")
        rng.shuffle(members)
        kept.append(members[:count])
    return torch.from_numpy(np.concatenate(kept))


def indices_sha256(indices: Tensor) -> str:
    """Compute the identity of a subset: SHA-256 of the little-endian int64 bytes of its indices.

    Example:
        >>> indices_sha256(torch.tensor([0, 1, 2]))[:12]
        'ab25350e3e65'
    """
    return hashlib.sha256(indices.cpu().numpy().astype("<i8").tobytes()).hexdigest()


def balanced_holdout(targets: Tensor, num_classes: int, per_class: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a given number of images of each class.

    Args:
        targets: Labels, shape (N,).
        num_classes: C.
        per_class: Number of images to hold out from each class, shape (C,).
        seed: Seed of the draw. The same seed holds out the same images.

    Returns:
        Indices kept and indices held out, each in the original order.

    Example:
        >>> kept, held = balanced_holdout(torch.tensor([0, 0, 0, 1, 1]), 2, torch.tensor([1, 1]), seed=0)
        >>> len(kept), len(held)
        (3, 2)
    """
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    by_class = order[torch.argsort(targets[order], stable=True)]
    counts_C = torch.bincount(targets, minlength=num_classes)
    first_C = counts_C.cumsum(0) - counts_C
    labels = targets[by_class]
    rank_in_class = torch.arange(len(targets)) - first_C[labels]
    held = torch.zeros(len(targets), dtype=torch.bool)
    held[by_class[rank_in_class < per_class[labels]]] = True
    everything = torch.arange(len(targets))
    return everything[~held], everything[held]


def quota_for_test(counts_C: Tensor, per_class: int | None) -> Tensor:
    """Compute the number of images of each class to hold out for a balanced test split.

    By default, every class gives the same number: a fifth of the median class, at most a third of the rarest class,
    and at least one. Each class keeps at least one training image. A class that is too small gives what it can, and a
    class with a single image gives none. Classes without an image do not count.

    Args:
        counts_C: Images of each class.
        per_class: Number to hold out from each class, >= 1. None uses the default rule.

    Returns:
        Numbers of images, int64, shape (C,).

    Raises:
        InputError: If no class has more than one image.

    Example:
        >>> quota_for_test(torch.tensor([500, 50, 30]), None), quota_for_test(torch.tensor([500, 50, 9, 1]), None)
        (tensor([10, 10, 10]), tensor([1, 1, 1, 0]))
    """
    filled_C = counts_C[counts_C > 0]
    if int(counts_C.max()) < 2:
        raise InputError("every class has a single image, so no test split can be held out; provide a test split")
    default = min(int(TEST_SHARE * int(filled_C.median())), int(LARGEST_TEST_SHARE * int(filled_C.min())))
    wanted = max(1, default) if per_class is None else per_class
    return (counts_C - 1).clamp(min=0, max=wanted)


def quota_for_val(counts_C: Tensor, share: float) -> Tensor:
    """Compute the number of training images of each class to hold out for the validation split.

    Args:
        counts_C: Training images of each class.
        share: Share of each class, in [0, 1), rounded. A class of five or more images gives at least one, and each
            class keeps at least one.

    Returns:
        Numbers of images, int64, shape (C,).

    Example:
        >>> quota_for_val(torch.tensor([100, 5, 4]), 0.1)
        tensor([10,  1,  0])
    """
    if share == 0:
        return torch.zeros_like(counts_C)
    wanted_C = (counts_C * share).round().long().maximum((counts_C >= MIN_COUNT_FOR_VAL).long())
    return wanted_C.minimum((counts_C - 1).clamp(min=0))


def check_split_options(
    *, test_per_class: int | None = None, val_share: float = 0.0, imbalance_factor: float | None = None
) -> None:
    """Reject split options that are out of range, before any image is read.

    Args:
        test_per_class: Test images per class, >= 1 or None.
        val_share: Share of the training images to hold out, in [0, 1).
        imbalance_factor: Imbalance factor of the long tail, >= 1 or None.

    Raises:
        InputError: If an option is out of range.

    Example:
        >>> check_split_options(val_share=1.0)
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `val_share` must be >= 0 and < 1, got 1.0
    """
    if test_per_class is not None and test_per_class < 1:
        raise InputError(f"`test_per_class` must be >= 1, got {test_per_class}")
    if not 0 <= val_share < 1:
        raise InputError(f"`val_share` must be >= 0 and < 1, got {val_share}")
    if imbalance_factor is not None and imbalance_factor < 1:
        raise InputError(f"`imbalance_factor` must be >= 1, got {imbalance_factor}")


def val_suffix(val_share: float) -> str:
    """Return the suffix that a held-out validation split adds to the name of a split.

    Example:
        >>> val_suffix(0.1), val_suffix(0.0)
        ('-val0.1', '')
    """
    return f"-val{val_share:g}" if val_share else ""


def complete_splits(
    rows: Rows,
    targets_N: Tensor,
    class_names: tuple[str, ...],
    *,
    test_per_class: int | None = None,
    imbalance_factor: float | None = None,
    profile: Profile = "exp",
    val_share: float = 0.0,
    seed: int = 0,
    groups_N: Tensor | None = None,
) -> tuple[Rows, list[str]]:
    """Hold out the test split, cut the long tail and hold out the validation split, in this order.

    Splits that are given stay as they are. The validation split is held out last, so that it follows the long tail.

    Args:
        rows: Given splits, "train" among them.
        targets_N: Labels of all images.
        class_names: C names.
        test_per_class: Images per class of the test split. None uses the rule of `quota_for_test`.
        imbalance_factor: Imbalance factor of the long tail to cut. None keeps all training images.
        profile: Shape of the long tail, see `long_tailed_counts`.
        val_share: Share of the training images of each class to hold out.
        seed: Seed of the held-out images.
        groups_N: Group of each image, which is held out whole. None takes each image for itself.

    Returns:
        Rows of all splits, and a sentence about each change.

    Raises:
        InputError: If the classes are too small for the options.
    """
    notes: list[str] = []
    warnings: list[str] = []
    if "test" not in rows:
        quota_C = quota_for_test(_counts(rows["train"], targets_N, class_names), test_per_class)
        rows = _hold_out(rows, "test", targets_N, quota_C, seed, groups_N)
        if groups_N is None:
            notes += _test_notes(len(rows["test"]), quota_C, class_names)
        else:
            notes.append(
                f"The data have no test split: one of {len(rows['test']):,} images was held out from the training "
                f"images in whole groups, about {int(quota_C.max())} images per class."
            )
        warnings = _small_test_notes(_counts(rows["test"], targets_N, class_names), class_names)
    untested_C = _counts(rows["test"], targets_N, class_names) == 0
    if bool(untested_C.any()):
        notes.append(
            f"{int(untested_C.sum()):,} of {len(class_names):,} classes have no test image: "
            f"{_named(class_names, untested_C)}."
        )
    if imbalance_factor is not None:
        available_C = _counts(rows["train"], targets_N, class_names)
        rows = _cut_tail(rows, targets_N, available_C, imbalance_factor, profile)
        notes += _tail_notes(len(rows["train"]), available_C, imbalance_factor, profile)
    quota_C = quota_for_val(_counts(rows["train"], targets_N, class_names), val_share)
    if "val" not in rows and bool(quota_C.any()):
        rows = _hold_out(rows, "val", targets_N, quota_C, seed, groups_N)
        notes.append(f"{len(rows['val']):,} training images were held out as a validation split.")
    return rows, notes + warnings


def _counts(rows: Tensor, targets_N: Tensor, class_names: tuple[str, ...]) -> Tensor:
    return torch.bincount(targets_N[rows], minlength=len(class_names))


def _hold_out(rows: Rows, part: str, targets_N: Tensor, quota_C: Tensor, seed: int, groups_N: Tensor | None) -> Rows:
    own_N = targets_N[rows["train"]]
    if groups_N is None:
        kept, held = balanced_holdout(own_N, len(quota_C), quota_C, seed)
    else:
        kept, held = grouped_holdout(own_N, groups_N[rows["train"]], quota_C, seed)
    return {**rows, "train": rows["train"][kept], part: rows["train"][held]}


def _test_notes(images: int, quota_C: Tensor, class_names: tuple[str, ...]) -> list[str]:
    most = int(quota_C.max())
    notes = [
        f"The data have no test split: a balanced one of {images:,} images, {most} per class, was held out from the "
        "training images (`test_per_class` sets the number)."
    ]
    short_C = (quota_C < most) & (quota_C > 0)
    if bool(short_C.any()):
        notes.append(
            f"{int(short_C.sum()):,} classes have too few images to give {most} and gave fewer, so the test split is "
            f"not exactly balanced: {_named(class_names, short_C)}."
        )
    return notes


def _small_test_notes(tested_C: Tensor, class_names: tuple[str, ...]) -> list[str]:
    """Return a warning if an accuracy rests on very few test images."""
    fewest = int(tested_C[tested_C > 0].min())
    if fewest >= FEWEST_TESTED:
        return []
    return [
        f"The test split has {fewest} image{'s' * (fewest > 1)} of a class ({_named(class_names, tested_C == fewest)}),"
        f" whose accuracy has a standard error of up to {50 / fewest**0.5:.0f} points. `folds` 5 tests every image by "
        "cross-validation instead."
    ]


def _cut_tail(rows: Rows, targets_N: Tensor, available_C: Tensor, factor: float, profile: Profile) -> Rows:
    """Keep the largest long tail that the classes allow. A larger class never keeps fewer images than a smaller one."""
    if int(available_C.min()) == 0:
        raise InputError(
            f"`imbalance_factor` {factor:g} needs training images of every class, and {int((available_C == 0).sum())} "
            'classes have none; set `empty_classes` to "drop", or leave the data as they are'
        )
    # stable: among classes of equal size the first label stays the most frequent, as in the published subsets
    ranked_C, order_C = available_C.sort(descending=True, stable=True)
    for largest in range(int(ranked_C[0]), 0, -1):
        kept_C = long_tailed_counts(largest, len(ranked_C), factor, profile)
        if bool((kept_C <= ranked_C).all()):
            break
    wanted_C = torch.empty_like(kept_C)
    wanted_C[order_C] = kept_C
    return {**rows, "train": rows["train"][long_tailed_indices(targets_N[rows["train"]], wanted_C)]}


def _tail_notes(kept: int, available_C: Tensor, factor: float, profile: Profile) -> list[str]:
    total = int(available_C.sum())
    notes = [
        f"A long tail with imbalance factor {factor:g} ({profile}) was cut from the training images: {kept:,} of "
        f"{total:,} are left."
    ]
    largest, smallest = int(available_C.max()), int(available_C.min())
    if 2 * kept < total and largest > factor * smallest:
        notes.append(
            f"{total - kept:,} training images were left out because the data are more imbalanced ({largest:,} images "
            f"of the most frequent class, {smallest:,} of the rarest) than requested: no class may have more than "
            f"about {factor:g} times the images of the rarest. Without `imbalance_factor`, all images are kept."
        )
    return notes


def _named(class_names: tuple[str, ...], mask_C: Tensor) -> str:
    return first_few([class_names[label] for label in mask_C.nonzero().flatten().tolist()])


def first_few(items: list[str]) -> str:
    """Format a list for a note: the first three items, and the number of the others.

    Example:
        >>> first_few(["ant", "bee", "cat", "dog"])
        'ant, bee, cat and 1 more'
    """
    return ", ".join(items[:3]) + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")
