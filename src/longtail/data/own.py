"""A user's own images as a data set: find what the path is, read it, divide it, and keep account of what was done.

Shapes: N = images of all parts, C = classes.
"""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split
from longtail.data.decode import SMALL
from longtail.data.divide import Rows, check_division, divide, first_few, held_out_suffix
from longtail.data.duplicates import Matches, equal_files, equal_pixels
from longtail.data.formats.folder import read_folder
from longtail.data.formats.lists import BENCHMARKS, read_lists
from longtail.data.formats.table import TABLE_SUFFIXES, read_table
from longtail.data.intake import Intake, Progress, check_all, decode_all, natural_size
from longtail.data.listing import PART_NAMES, Listing, check_class_presence
from longtail.data.resident import ResidentImages, channel_statistics
from longtail.data.stream import StreamedImages
from longtail.errors import InputError

CHECK_LIMIT = 50_000
# of ImageNet, as everybody uses them for images of that kind
STREAMED_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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
        longtail.errors.InputError: 'photos' is no file or folder; give a folder with a folder per class, a table ...
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
    problem = "is no kind of data that can be read" if path.exists() else "is no file or folder"
    raise InputError(
        f"{config.name!r} {problem}; give a folder with a folder per class, a table ({', '.join(TABLE_SUFFIXES)}), or "
        "a list (.txt)"
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
    readable = _readable_rows(listing, targets_N, intake.readable)
    rows, notes = divide(readable, targets_N, listing.class_names, config)
    twins, duplicate_notes = _duplicates(rows, names, paths, intake.pixels)
    brought = "val" in listing.parts
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
        split=Split(
            listing.source + ("" if brought else held_out_suffix(config)),
            _digest(names, targets_N, rows["train"]),
            len(rows["train"]),
        ),
        imbalance_factor=config.imbalance_factor,
        val_from_train=not brought,
        mean=mean,
        std=std,
        load_report=LoadReport(
            notes=(*listing.notes, *_intake_notes(intake, size, len(paths), listing.root), *notes, *duplicate_notes),
            skipped=len(intake.bad),
            duplicates=len(twins),
        ),
    )


def _check_settings(config: DataConfig) -> None:
    check_division(config)
    if config.image_size is not None and config.image_size < 1:
        raise InputError(f"--image-size must be at least 1 pixel, not {config.image_size}")


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


def _intake_notes(intake: Intake, size: int, images: int, root: Path) -> list[str]:
    notes = []
    if intake.bad:
        reasons = [f"{error.path.relative_to(root).as_posix()} ({error.reason})" for error in intake.bad]
        notes.append(f"{len(intake.bad):,} unreadable images were left out: {first_few(reasons)}.")
    if intake.resized:
        notes.append(f"{intake.resized:,} of {images:,} images were not {size} x {size} pixels and were resized.")
    return notes


def _readable_rows(listing: Listing, targets_N: Tensor, readable: Tensor) -> Rows:
    """The rows of each part that can be read; none may lose what it needs."""
    is_readable_N = torch.zeros(len(targets_N), dtype=torch.bool)
    is_readable_N[readable] = True
    rows: dict[str, Tensor] = {}
    start = 0
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
    named = first_few([f"{names[copy]} = {names[original]}" for copy, original in twins])
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
