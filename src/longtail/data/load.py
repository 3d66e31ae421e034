"""Load a data set by name or path: choose the reader, read the images and split them.

Shapes: N = images of all splits, C = classes.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from longtail._logging import progress_bar
from longtail.config.recipes import plugin_readers
from longtail.config.schema import DataConfig
from longtail.data.cache import image_cache
from longtail.data.dataset import Dataset, Images, LoadReport, Part, Split, Unreadable
from longtail.data.decode import Decoding
from longtail.data.duplicates import Digests, Found, file_digests, find_duplicates, pixel_digests
from longtail.data.files import (
    DecodedImages,
    Progress,
    check_all,
    choose_resize,
    decode_all,
    natural_size,
    sampled_bits,
)
from longtail.data.find import find_listing, settle_classes
from longtail.data.formats.cifar import detect_cifar, load_cifar
from longtail.data.formats.cifar_files import CIFARS
from longtail.data.formats.digits import load_digits_lt
from longtail.data.formats.feature_dataset import load_feature_data
from longtail.data.formats.features import holds_features
from longtail.data.formats.listing import SPLIT_NAMES, Listing
from longtail.data.formats.lists import BENCHMARKS
from longtail.data.formats.paths import on_disk
from longtail.data.formats.table import TABLE_SUFFIXES
from longtail.data.grouped import fold_rows
from longtail.data.groups import group_notes, groups_of
from longtail.data.packed import tables_in
from longtail.data.resident import ResidentImages, channel_statistics
from longtail.data.splits import Rows, check_split_options, complete_splits, first_few, val_suffix
from longtail.data.stream import StreamedImages
from longtail.data.views import SMALL
from longtail.errors import InputError, naming, near_paths, nearest

NAMES = ("digits-lt", "cifar10-lt", "cifar100-lt", "cifar10", "cifar100", "imagenet-lt", "places-lt", "inat18")
CHECK_LIMIT = 50_000
_FILES = ("folders of classes", "tables", "lists")
APPLIES_TO = {
    "root": ("CIFAR by name", "tables", "lists"),
    "image_size": (*_FILES, "CIFAR by name", "CIFAR files"),  # CIFAR accepts 32 and refuses others itself
    "test_per_class": (*_FILES, "features"),
    "storage": (*_FILES, "CIFAR by name", "CIFAR files"),
    "follow_links": _FILES,
    "include": _FILES,
    "exclude": _FILES,
    "test": _FILES,
    "resize": _FILES,
    "group": _FILES,
    "folds": _FILES,
    "empty_classes": _FILES,
    "path_column": ("tables",),
    "label_column": ("tables",),
}
"""Kinds of data on which an option has an effect. Options that are not listed have an effect on all kinds, or are
limits."""
# statistics of ImageNet, the convention for natural images
STREAMED_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load_data(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Load a data set by name or path.

    Args:
        config: Name or path of the data, and how to read and split them.
        device: Device that holds small images and receives the batches of large ones.

    Raises:
        InputError: If the data cannot be found or read.

    Example:
        >>> data = load_data(DataConfig(name="digits-lt", val_share=0.1))
        >>> data.class_counts.counts.tolist(), len(data.val), len(data.test)
        ([112, 79, 57, 41, 29, 21, 14, 11, 7, 5], 41, 500)
    """
    path = on_disk(Path(config.name).expanduser())
    if str(path) != config.name and path.exists():
        config = replace(config, name=str(path))
    readers = plugin_readers()
    if config.name in readers:
        data: Dataset = readers[config.name](config, torch.device(device))
        return data
    known = (*NAMES, *readers)
    if config.name not in known and path.is_symlink() and not path.exists():
        raise InputError(
            f"{config.name!r} is a symbolic link that leads nowhere; repair it, or give the data themselves"
        )
    if config.name not in known and not path.exists():
        near = [*near_paths(path), *nearest(config.name, known)][:3]
        choices = f"one of {', '.join(known)}, a folder with one folder per class, a table or a list"
        hint = f"did you mean {' or '.join(near)}?" if near else f"give {choices}"
        raise InputError(f"there is no data set and no file or folder {config.name!r}; {hint}")
    is_cifar = config.name.removesuffix("-lt") in CIFARS or detect_cifar(path) is not None
    is_features = holds_features(path)
    if config.test is not None and (config.name == "digits-lt" or is_cifar or is_features):
        raise InputError(f"`test` applies to folders, tables and lists of images, and {config.name!r} is none of them")
    if config.folds is not None and (config.name in NAMES or is_cifar or is_features):
        raise InputError(f"`folds` applies to folders, tables and lists of images by path, got {config.name!r}")
    if config.name == "digits-lt":
        return load_digits_lt(config, device)
    if is_features:
        return load_feature_data(config, device)
    if is_cifar:
        return load_cifar(config, device)
    with progress_bar("reading images", 1, images_per_unit=1) as bar:
        return load_files(config, device, bar.moved_to)


def refuse_unused(config: DataConfig, given: Iterable[str]) -> None:
    """Refuse options that choose or change the images but have no effect on this kind of data.

    Limits, such as `max_pixels` and `workers`, are accepted: they hold for any data.

    Args:
        config: Name or path of the data.
        given: Names of the fields that the user gave.

    Raises:
        InputError: With the option and the data for which it has an effect.

    Example:
        >>> refuse_unused(DataConfig(name="digits-lt"), ["path_column"])
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `path_column` has no effect on 'digits-lt', ...
    """
    kind = _kind(config.name)
    for option in given:
        kinds = APPLIES_TO.get(option, ())
        if kind is not None and kinds and kind not in kinds:
            raise InputError(f"`{option}` has no effect on {config.name!r}, only on {', '.join(kinds)}; leave it out")


def _kind(name: str) -> str | None:
    """Return the kind of data as in `APPLIES_TO`; None if it does not exist or a plug-in reads it."""
    path = Path(name).expanduser()
    if name in BENCHMARKS:
        return "lists"
    if name == "digits-lt":
        return "the digits"
    if name in NAMES:
        return "CIFAR by name"
    if name in plugin_readers() or not path.exists():
        return None
    if holds_features(path):
        return "features"
    if detect_cifar(path) is not None:
        return "CIFAR files"
    if path.is_dir() and not any(path.glob("*_train.txt")):
        return "tables" if tables_in(path) else "folders of classes"
    return "tables" if path.suffix.lower() in TABLE_SUFFIXES else "lists"


def load_files(config: DataConfig, device: torch.device | str = "cpu", on_progress: Progress | None = None) -> Dataset:
    """Load image files from a folder, a table or lists.

    Args:
        config: Settings, whose `name` is a path or a benchmark published as lists ("imagenet-lt", "places-lt",
            "inat18").
        device: Device of the training.
        on_progress: Callback with the number of images checked and the number of all images.

    Raises:
        InputError: If the path is of an unknown kind, or its content is invalid.

    Example:
        >>> load_files(DataConfig(name="photos"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: 'photos' is not a file or folder; give a folder with one folder per class, ...
    """
    return dataset_from_listing(find_listing(config), config, device, on_progress)


def dataset_from_listing(
    listing: Listing, config: DataConfig, device: torch.device | str = "cpu", on_progress: Progress | None = None
) -> Dataset:
    """Read the images of a listing and split them into training, validation and test images.

    Args:
        listing: Image files with their classes.
        config: How to read and split them.
        device: Device of the training.
        on_progress: Callback with the number of images checked and the number of all images.

    Returns:
        Data set whose split digest covers a line `path<tab>label` for each training image, in order.

    Raises:
        InputError: If an image cannot be read (unless `config.on_bad_image` is "skip"), a class loses all its training
            images, or a setting is out of range.
    """
    check_split_options(
        test_per_class=config.test_per_class, val_share=config.val_share, imbalance_factor=config.imbalance_factor
    )
    names = [path for part in SPLIT_NAMES if part in listing.parts for path in listing.parts[part].paths]
    targets_N = torch.cat([listing.parts[part].targets for part in SPLIT_NAMES if part in listing.parts])
    paths = [listing.root / name for name in names]
    size, resident = _storage(paths, config)
    resize, resize_note = choose_resize(paths[: len(listing.parts["train"])], size, config.resize, _decoding(config))
    config = replace(config, resize=resize)
    decoded = _read_once(paths, size, resident, config, on_progress)
    given = _readable_rows(listing, targets_N, decoded.readable)
    what = listing.name if not decoded.bad else f"{listing.name} without its {len(decoded.bad):,} unreadable images"
    class_names, given, targets_N, class_notes = settle_classes(
        what, listing.class_names, given, targets_N, config.empty_classes
    )
    thumbs = decoded.thumbs if len(names) <= CHECK_LIMIT else None
    grouping = groups_of(listing, config, targets_N, class_names, thumbs)
    groups_N = None if grouping is None else grouping.groups
    if config.folds is not None:
        with naming(config.name):
            given = fold_rows(given, targets_N, groups_N, config.folds, config.fold, config.seed)
    with naming(config.name):
        rows, notes = complete_splits(
            given,
            targets_N,
            class_names,
            test_per_class=config.test_per_class,
            imbalance_factor=config.imbalance_factor,
            profile=config.profile,
            val_share=config.val_share,
            seed=config.seed,
            groups_N=groups_N,
        )
    labels = {index: class_names[label] for index, label in _labels(rows, targets_N)}
    is_pooled = config.folds is not None and config.fold is None  # every test image is a training image too
    compared = {**rows, "test": rows["test"][:0]} if is_pooled else rows
    found, duplicate_notes = _find_duplicates(compared, names, paths, labels, decoded)
    has_val = "val" in listing.parts
    name_of = dict(zip(paths, names, strict=True))
    bad = tuple(Unreadable(name_of[error.path], error.reason) for error in decoded.bad)
    images = _images(rows, paths, decoded, size, device, config)
    parts = {part: _part(images[part], index, targets_N, names) for part, index in rows.items()}
    mean, std = STREAMED_STATISTICS
    if decoded.pixels is not None:
        mean, std = channel_statistics(decoded.pixels[rows["train"]])
    return Dataset(
        name=listing.name,
        class_names=class_names,
        train=parts["train"],
        val=parts.get("val"),
        test=parts["test"],
        split=Split(
            _split_name(listing, config, grouping is not None),
            _digest(names, targets_N, rows["train"]),
            len(rows["train"]),
        ),
        imbalance_factor=config.imbalance_factor,
        val_from_train=not has_val,
        bits=decoded.bits,
        resize=resize,
        group="none" if grouping is None else config.group,
        mean=mean,
        std=std,
        load_report=LoadReport(
            notes=(
                *listing.notes,
                *_decode_notes(decoded, size, names, bad),
                *class_notes,
                *group_notes(grouping, listing, rows),
                *notes,
                *duplicate_notes,
                *([resize_note] if resize_note and listing.name not in BENCHMARKS else []),
            ),
            skipped=len(bad),
            duplicates=len(found.same),
            duplicate_images=found.same,
            near_duplicates=found.near,
            conflicts=found.conflicts,
            unreadable=bad,
            passed_over=listing.passed_over,
            groups=0 if groups_N is None else int((groups_N.bincount() > 1).sum()),
        ),
    )


def _storage(paths: list[Path], config: DataConfig) -> tuple[int, bool]:
    """Return the side of the square in pixels, and whether the images are kept in memory."""
    size = config.image_size if config.image_size is not None else natural_size(paths, _decoding(config))
    return size, config.storage == "resident" or (config.storage == "auto" and size <= SMALL)


def _read_once(
    paths: list[Path], size: int, resident: bool, config: DataConfig, on_progress: Progress | None
) -> DecodedImages:
    """Read every image once if that is affordable, so that errors show before hours of training."""
    how = _decoding(config)
    if resident:
        return decode_all(paths, size, config.on_bad_image, on_progress, how)
    # unreadable images can only be left out after all have been read
    if len(paths) <= CHECK_LIMIT or config.on_bad_image == "skip":
        return check_all(paths, config.on_bad_image, on_progress, how)
    return DecodedImages(torch.arange(len(paths)), (), bits=sampled_bits(paths, how))


def _split_name(listing: Listing, config: DataConfig, grouped: bool) -> str:
    fold = "" if config.folds is None else f"-fold{'s' if config.fold is None else config.fold}of{config.folds}"
    val = "" if "val" in listing.parts else val_suffix(config.val_share)
    return f"{listing.source}{fold}{val}{'-grouped' * grouped}"


def _part(images: Images, rows: Tensor, targets_N: Tensor, names: list[str]) -> Part:
    return Part(images, targets_N[rows], tuple(names[row] for row in rows.tolist()))


def _decoding(config: DataConfig, bits: int | None = None) -> Decoding:
    return Decoding(bits, config.max_pixels, "crop" if config.resize == "auto" else config.resize)


def _labels(rows: Rows, targets_N: Tensor) -> list[tuple[int, int]]:
    """Return the index and the label of every image of a split."""
    everything = torch.cat(list(rows.values()))
    return list(zip(everything.tolist(), targets_N[everything].tolist(), strict=True))


def _decode_notes(decoded: DecodedImages, size: int, names: list[str], bad: tuple[Unreadable, ...]) -> list[str]:
    notes = []
    if bad:
        reasons = [f"{each.path} ({each.reason})" for each in bad]
        notes.append(f"{len(bad):,} unreadable images were left out: {first_few(reasons)}.")
    if decoded.resized:
        notes.append(f"{decoded.resized:,} of {len(names):,} images were not {size} x {size} pixels and were resized.")
    if decoded.bits is not None and decoded.bits != 16:
        notes.append(f"Gray values of more than 8 bits use {decoded.bits} bits and were scaled from these to 8 bits.")
    if decoded.flat:
        flat = first_few([names[index] for index in decoded.flat])
        notes.append(f"{len(decoded.flat):,} images are of a single color or nearly black; check them: {flat}.")
    return notes


def _readable_rows(listing: Listing, targets_N: Tensor, readable: Tensor) -> Rows:
    """Return the readable rows of each split. Check that no split is lost."""
    is_readable_N = torch.zeros(len(targets_N), dtype=torch.bool)
    is_readable_N[readable] = True
    rows: dict[str, Tensor] = {}
    start = 0
    for part in SPLIT_NAMES:
        if part in listing.parts:
            end = start + len(listing.parts[part])
            rows[part] = is_readable_N[start:end].nonzero().flatten() + start
            start = end
            if not len(rows[part]):
                raise InputError(f"no image of the {part} split of {listing.name!r} can be read")
    return rows


def _find_duplicates(
    rows: Rows, names: list[str], paths: list[Path], labels: Mapping[int, str], decoded: DecodedImages
) -> tuple[Found, list[str]]:
    """Return the duplicates among the images of all splits, and notes on them."""
    train, test = rows["train"].tolist(), rows["test"].tolist()
    if decoded.pixels is not None:
        digests: Digests = pixel_digests(decoded.pixels, list(labels))
    elif len(paths) <= CHECK_LIMIT:
        digests = file_digests(paths, list(labels))
    else:
        note = f"Duplicates were not searched, because there are more than {CHECK_LIMIT:,} streamed images."
        return Found((), (), (), len(test)), [note]
    thumbs = decoded.thumbs if len(paths) <= CHECK_LIMIT else None
    found = find_duplicates(digests, thumbs, train, test, names, labels)
    return found, found.notes()


def _images(
    rows: Rows, paths: list[Path], decoded: DecodedImages, size: int, device: torch.device | str, config: DataConfig
) -> dict[str, Images]:
    if decoded.pixels is not None:
        return {part: ResidentImages(decoded.pixels[index], device) for part, index in rows.items()}
    how = _decoding(config, decoded.bits)
    cache = image_cache(config.cache, paths, size, how)
    everything = StreamedImages(paths, size, device=device, workers=config.workers, how=how, cache=cache)
    return {part: everything.subset(index) for part, index in rows.items()}


def _digest(names: list[str], targets_N: Tensor, train: Tensor) -> str:
    digest = hashlib.sha256()
    for row, label in zip(train.tolist(), targets_N[train].tolist(), strict=True):
        digest.update(os.fsencode(names[row]) + f"\t{label}\n".encode())
    return digest.hexdigest()
