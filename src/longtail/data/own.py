"""A user's own images as a data set: find what the path is, read it, divide it, and keep account of what was done.

Shapes: N = images of all parts, C = classes.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from longtail.config import DataConfig
from longtail.data.dataset import Account, Dataset, Images, Part, Split, balanced_holdout
from longtail.data.decode import SMALL, BadImage
from longtail.data.duplicates import Matches, equal_files, equal_pixels
from longtail.data.folder import read_folder
from longtail.data.holdout import test_quota, val_quota
from longtail.data.intake import Intake, Progress, check_all, decode_all, natural_size
from longtail.data.listing import PART_NAMES, Listing, check_class_presence
from longtail.data.lists import BENCHMARKS, read_lists
from longtail.data.profiles import long_tailed_counts, long_tailed_indices
from longtail.data.resident import ResidentImages, channel_statistics
from longtail.data.stream import StreamedImages
from longtail.data.table import TABLE_SUFFIXES, read_table
from longtail.errors import InputError

CHECK_LIMIT = 50_000
# of ImageNet, as everybody uses them for images of that kind
STREAMED_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Rows = Mapping[str, Tensor]
"""Indices into the images of all parts, by part."""


def load_own(config: DataConfig, device: torch.device | str = "cpu", on_progress: Progress | None = None) -> Dataset:
    """Read a folder, a table or lists of images.

    Args:
        config: `name` is a path, or a benchmark that comes as lists ("imagenet-lt", "places-lt", "inat18").
        device: where training runs.
        on_progress: called with the number of images looked at and that of all.

    Raises:
        InputError: if the path is of no known kind, or anything is wrong with what it holds.

    Example:
        >>> load_own(DataConfig(name="photos"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: there is no file or folder 'photos'; give a folder with a folder per class, ...
    """
    return dataset_from_listing(find_listing(config), config, device, on_progress)


def find_listing(config: DataConfig) -> Listing:
    """Read what `config.name` names, as the kind of data that it is."""
    path = Path(config.name).expanduser()
    if config.name in BENCHMARKS:
        return read_lists(config.name, config.root)
    if path.is_dir():
        return read_lists(config.name, config.root) if any(path.glob("*_train.txt")) else read_folder(config.name)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(config.name, config.root)
    if path.suffix.lower() == ".txt":
        return read_lists(config.name, config.root)
    problem = (
        f"{config.name!r} is no kind of data that can be read"
        if path.exists()
        else (f"there is no file or folder {config.name!r}")
    )
    raise InputError(
        f"{problem}; give a folder with a folder per class, a table ({', '.join(TABLE_SUFFIXES)}), or a list (.txt)"
    )


def dataset_from_listing(
    listing: Listing, config: DataConfig, device: torch.device | str = "cpu", on_progress: Progress | None = None
) -> Dataset:
    """Read the images of a listing and divide them into training, validation and test part.

    Args:
        listing: which files, of which classes.
        config: how they are read and divided.
        device: where training runs.
        on_progress: called with the number of images looked at and that of all.

    Returns:
        The split's digest is over a line `path<tab>label` for each training image, in order.

    Raises:
        InputError: if an image cannot be read (unless `config.on_bad_image` is "skip"), a class loses all its training
            images, or a setting is out of range.
    """
    _check_settings(config)
    names = [path for part in PART_NAMES if part in listing.parts for path in listing.parts[part].paths]
    targets_N = torch.cat([listing.parts[part].targets for part in PART_NAMES if part in listing.parts])
    paths = [listing.root / name for name in names]
    size, resident = _storage(paths, config)
    intake = _look(paths, size, resident, config, on_progress)
    rows = _readable_rows(listing, targets_N, intake.readable)
    rows, notes = _divided(rows, targets_N, listing, config)
    twins, duplicate_notes = _duplicates(rows, names, paths, intake.pixels)
    images = _images(rows, paths, intake.pixels, size, device, config)
    mean, std = STREAMED_STATISTICS
    if intake.pixels is not None:
        mean, std = channel_statistics(intake.pixels[rows["train"]])
    return Dataset(
        name=listing.name,
        class_names=listing.class_names,
        train=Part(images["train"], targets_N[rows["train"]]),
        val=Part(images["val"], targets_N[rows["val"]]) if "val" in rows else None,
        test=Part(images["test"], targets_N[rows["test"]]),
        split=Split(listing.source, _digest(names, targets_N, rows["train"]), len(rows["train"])),
        imbalance_factor=config.imbalance_factor,
        mean=mean,
        std=std,
        account=Account(
            notes=(*listing.notes, *_intake_notes(intake, size, len(paths)), *notes, *duplicate_notes),
            skipped=len(intake.bad),
            duplicates=len(twins),
        ),
    )


def _check_settings(config: DataConfig) -> None:
    if config.image_size is not None and config.image_size < 1:
        raise InputError(f"data.image_size must be at least 1 pixel, not {config.image_size}")


def _storage(paths: list[Path], config: DataConfig) -> tuple[int, bool]:
    """Side of the square in pixels, and whether the images are kept in memory."""
    size = config.image_size if config.image_size is not None else natural_size(paths)
    return size, config.storage == "resident" or (config.storage == "auto" and size <= SMALL)


def _look(paths: list[Path], size: int, resident: bool, config: DataConfig, on_progress: Progress | None) -> Intake:
    """Read every image once, where that is affordable: what is wrong should show before hours of training."""
    if resident:
        return decode_all(paths, size, config.on_bad_image, on_progress)
    # to leave unreadable images out one must know them
    if len(paths) <= CHECK_LIMIT or config.on_bad_image == "skip":
        return check_all(paths, config.on_bad_image, on_progress)
    return Intake(torch.arange(len(paths)), ())


def _intake_notes(intake: Intake, size: int, images: int) -> list[str]:
    notes = []
    if intake.bad:
        notes.append(f"{len(intake.bad):,} unreadable images were left out: {_first(_reasons(intake.bad))}.")
    if intake.resized:
        notes.append(f"{intake.resized:,} of {images:,} images were not {size} x {size} pixels and were resized.")
    return notes


def _reasons(bad: tuple[BadImage, ...]) -> list[str]:
    return [f"{error.path.name} ({error.reason})" for error in bad]


def _first(items: list[str], most: int = 3) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most:,} more" if len(items) > most else "")


def _readable_rows(listing: Listing, targets_N: Tensor, readable: Tensor) -> dict[str, Tensor]:
    """The rows of each part that can be read; none may lose what it needs."""
    is_readable_N = torch.zeros(len(targets_N), dtype=torch.bool)
    is_readable_N[readable] = True
    rows, start = {}, 0
    for part in PART_NAMES:
        if part in listing.parts:
            end = start + len(listing.parts[part])
            rows[part] = is_readable_N[start:end].nonzero().flatten() + start
            start = end
            if not len(rows[part]):
                raise InputError(f"no image of the {part} part of {listing.name!r} can be read")
    if len(readable) < len(targets_N):
        what = f"{listing.name} without its {len(targets_N) - len(readable):,} unreadable images"
        check_class_presence(what, listing.class_names, {part: targets_N[index] for part, index in rows.items()})
    return rows


def _divided(
    rows: dict[str, Tensor], targets_N: Tensor, listing: Listing, config: DataConfig
) -> tuple[dict[str, Tensor], list[str]]:
    """Hold out what the data do not bring, and cut the long tail; with a note on each."""
    num_classes, notes = len(listing.class_names), []
    if "test" not in rows:
        quota_C = test_quota(_counts(targets_N[rows["train"]], num_classes), config.test_per_class)
        rows = _held_out(rows, "test", targets_N, quota_C, config.seed)
        notes.append(
            f"The data bring no test part: a balanced one of {len(rows['test']):,} images, {int(quota_C.max())} per "
            "class, was held out of the training images (data.test_per_class sets the number)."
        )
        notes += _short_classes(quota_C, listing.class_names)
    notes += _untested(_counts(targets_N[rows["test"]], num_classes), listing.class_names)
    if config.imbalance_factor is not None:
        whole = len(rows["train"])
        rows = {**rows, "train": rows["train"][_long_tail(targets_N[rows["train"]], num_classes, config)]}
        notes.append(
            f"A long tail with imbalance factor {config.imbalance_factor:g} ({config.profile}) was cut from the "
            f"training images: {len(rows['train']):,} of {whole:,} are left."
        )
    quota_C = val_quota(_counts(targets_N[rows["train"]], num_classes), config.val_share)
    if "val" not in rows and bool(quota_C.any()):
        rows = _held_out(rows, "val", targets_N, quota_C, config.seed)
        notes.append(f"{len(rows['val']):,} training images were held out for choices.")
    return rows, notes


def _counts(targets: Tensor, num_classes: int) -> Tensor:
    return torch.bincount(targets, minlength=num_classes)


def _held_out(rows: dict[str, Tensor], part: str, targets_N: Tensor, quota_C: Tensor, seed: int) -> dict[str, Tensor]:
    """Move the quota of each class from the training part to another."""
    kept, held = balanced_holdout(targets_N[rows["train"]], len(quota_C), quota_C, seed)
    return {**rows, "train": rows["train"][kept], part: rows["train"][held]}


def _short_classes(quota_C: Tensor, class_names: tuple[str, ...]) -> list[str]:
    """A note on classes that had too few images for the number all others gave, but gave some."""
    short_C = (quota_C < quota_C.max()) & (quota_C > 0)
    short = [class_names[label] for label in short_C.nonzero().flatten().tolist()]
    return [f"{len(short):,} classes have too few images for that and gave fewer: {_first(short)}."] if short else []


def _untested(counts_C: Tensor, class_names: tuple[str, ...]) -> list[str]:
    without = [class_names[label] for label in (counts_C == 0).nonzero().flatten().tolist()]
    if not without:
        return []
    return [f"{len(without):,} of {len(counts_C):,} classes have no test image: {_first(without)}."]


def _long_tail(targets: Tensor, num_classes: int, config: DataConfig) -> Tensor:
    assert config.imbalance_factor is not None
    fullest = int(_counts(targets, num_classes).max())
    counts_C = long_tailed_counts(fullest, num_classes, config.imbalance_factor, config.profile)
    return long_tailed_indices(targets, counts_C)


def _duplicates(rows: Rows, names: list[str], paths: list[Path], pixels: Tensor | None) -> tuple[Matches, list[str]]:
    train, test = rows["train"].tolist(), rows["test"].tolist()
    if pixels is not None:
        twins = equal_pixels(pixels, train, test)
    elif len(paths) <= CHECK_LIMIT:
        twins = equal_files(paths, train, test)
    else:
        return [], [f"Duplicates were not looked for among more than {CHECK_LIMIT:,} streamed images."]
    if not twins:
        return [], []
    named = _first([f"{names[copy]} = {names[original]}" for copy, original in twins])
    return twins, [f"{len(twins):,} of {len(test):,} test images are in the training part too: {named}."]


def _images(
    rows: Rows, paths: list[Path], pixels: Tensor | None, size: int, device: torch.device | str, config: DataConfig
) -> dict[str, Images]:
    if pixels is not None:
        return {part: ResidentImages(pixels[index], device) for part, index in rows.items()}
    everything = StreamedImages(paths, size, device=device, workers=config.workers)
    return {part: everything.subset(index) for part, index in rows.items()}


def _digest(names: list[str], targets_N: Tensor, train: Tensor) -> str:
    """SHA-256 over a line `path<tab>label` for each training image."""
    digest = hashlib.sha256()
    for row, label in zip(train.tolist(), targets_N[train].tolist(), strict=True):
        digest.update(os.fsencode(names[row]) + f"\t{label}\n".encode())
    return digest.hexdigest()
