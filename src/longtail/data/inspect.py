"""Summary of a data set before training."""

from dataclasses import dataclass

import torch

from longtail.data.dataset import Conflict, Dataset, Duplicate, Omission, Unreadable


@dataclass(frozen=True)
class Inspection:
    """Size and balance of a data set.

    Args:
        images: Number of training images, before a validation split is held out.
        held_out: Number of these images that are held out for validation.
        classes: C, including the classes without a training image.
        counts: Training images of each class before the hold-out, in the order of the labels. The shot groups, the
            imbalance factor and the recommended method refer to these counts.
        imbalance_factor: Largest count divided by the smallest count, over the classes that have images.
        gini: Gini coefficient of the counts.
        many: Number of classes with more than 100 training images.
        medium: Number of classes with 20 to 100 training images.
        few: Number of classes with fewer than 20 training images.
        zero_shot: Names of the classes without a training image.
        one_shot: Names of the classes with one training image.
        val_images: Number of validation images.
        test_images: Number of test images.
        test_balanced: Whether all classes have the same number of test images.
        duplicates: Number of test images that are also in the training split.
        skipped: Number of unreadable images left out.
        notes: Notes of the load report.
        duplicate_images: Test images that are training images too, each with the first such image.
        near_duplicates: Test images that look like a training image.
        conflicts: Images that occur under two labels.
        unreadable: Unreadable images that were left out.
        passed_over: Other files that were left out, by reason.
    """

    images: int
    held_out: int
    classes: int
    counts: tuple[int, ...]
    imbalance_factor: float
    gini: float
    many: int
    medium: int
    few: int
    zero_shot: tuple[str, ...]
    one_shot: tuple[str, ...]
    val_images: int
    test_images: int
    test_balanced: bool
    duplicates: int
    skipped: int
    notes: tuple[str, ...]
    duplicate_images: tuple[Duplicate, ...]
    near_duplicates: tuple[Duplicate, ...]
    conflicts: tuple[Conflict, ...]
    unreadable: tuple[Unreadable, ...]
    passed_over: tuple[Omission, ...]
    groups: int


def inspect_data(dataset: Dataset) -> Inspection:
    """Summarize the size and balance of a data set.

    Args:
        dataset: Data set of any source.

    Example:
        >>> from longtail.data import Part, ResidentImages, Split
        >>> images = ResidentImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
        >>> train, test = Part(images, torch.tensor([0, 0, 0, 1])), Part(images, torch.tensor([0, 0, 1, 1]))
        >>> summary = inspect_data(Dataset("toy", ("cat", "dog"), train, None, test, Split("toy", "", 4)))
        >>> summary.imbalance_factor, summary.one_shot, summary.test_balanced
        (3.0, ('dog',), True)
    """
    counts = dataset.group_counts
    groups = counts.groups()
    test_C = torch.bincount(dataset.test.targets, minlength=len(counts))
    per_class = tuple(counts.counts.tolist())
    return Inspection(
        images=counts.total,
        held_out=counts.total - dataset.class_counts.total,
        classes=len(counts),
        counts=per_class,
        imbalance_factor=counts.imbalance_factor,
        gini=counts.gini,
        many=int(groups["many"].sum()),
        medium=int(groups["medium"].sum()),
        few=int(groups["few"].sum()),
        zero_shot=_with_count(0, per_class, dataset.class_names),
        one_shot=_with_count(1, per_class, dataset.class_names),
        val_images=len(dataset.val) if dataset.val is not None else 0,
        test_images=len(dataset.test),
        test_balanced=bool((test_C == test_C[0]).all()),
        duplicates=dataset.load_report.duplicates,
        skipped=dataset.load_report.skipped,
        notes=dataset.load_report.notes,
        duplicate_images=dataset.load_report.duplicate_images,
        near_duplicates=dataset.load_report.near_duplicates,
        conflicts=dataset.load_report.conflicts,
        unreadable=dataset.load_report.unreadable,
        passed_over=dataset.load_report.passed_over,
        groups=dataset.load_report.groups,
    )


def _with_count(wanted: int, counts: tuple[int, ...], class_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name, count in zip(class_names, counts, strict=True) if count == wanted)
