"""What there is to know of a data set before training on it."""

from dataclasses import dataclass

import torch

from longtail.data.dataset import Dataset


@dataclass(frozen=True)
class Inspection:
    """The shape of a data set, in plain numbers.

    Args:
        images: training images.
        classes: C, those without a training image among them.
        counts: training images of each class, in the order of the labels.
        imbalance_factor: fullest over emptiest class, among those with images.
        gini: Gini coefficient of the counts.
        many: classes with more than 100 training images.
        medium: classes with 20 to 100.
        few: classes with fewer than 20.
        zero_shot: names of the classes without a training image.
        one_shot: names of the classes with a single one.
        val_images: held out of the training images for choices.
        test_images: in the test part.
        test_balanced: whether every class has as many test images as every other.
        duplicates: test images that are in the training part too.
        skipped: unreadable images left out.
        notes: what happened while the data were read.
    """

    images: int
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


def inspect_data(dataset: Dataset) -> Inspection:
    """Count what a data set holds.

    Args:
        dataset: as any source gives it.

    Example:
        >>> from longtail.data.dataset import Part, Split
        >>> from longtail.data.resident import ResidentImages
        >>> images = ResidentImages(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
        >>> train, test = Part(images, torch.tensor([0, 0, 0, 1])), Part(images, torch.tensor([0, 0, 1, 1]))
        >>> seen = inspect_data(Dataset("toy", ("cat", "dog"), train, None, test, Split("toy", "", 4)))
        >>> seen.imbalance_factor, seen.one_shot, seen.test_balanced
        (3.0, ('dog',), True)
    """
    counts = dataset.class_counts
    groups = counts.groups()
    test_C = torch.bincount(dataset.test.targets, minlength=len(counts))
    per_class = tuple(counts.counts.tolist())
    return Inspection(
        images=counts.total,
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
    )


def _with_count(wanted: int, counts: tuple[int, ...], class_names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name, count in zip(class_names, counts, strict=True) if count == wanted)
