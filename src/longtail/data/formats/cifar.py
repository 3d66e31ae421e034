"""CIFAR-10-LT and CIFAR-100-LT, the long-tailed subsets that most papers of the field train on.

The choice of the images follows LDAM-DRW (Cao et al., NeurIPS 2019, https://github.com/kaidic/LDAM-DRW) with seed 0.
The test split is the complete official one, which is balanced.

Shapes: N = images, R = bytes of a record, C = classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, LoadReport, Part, Split
from longtail.data.files import data_root
from longtail.data.formats.cifar_files import CIFARS, Bytes, CifarFiles, is_official
from longtail.data.resident import ResidentImages, channel_statistics
from longtail.data.splits import (
    balanced_holdout,
    check_split_options,
    indices_sha256,
    long_tailed_counts,
    long_tailed_indices,
    quota_for_val,
    val_suffix,
)
from longtail.errors import InputError, unknown_name

DEFAULT_IMBALANCE_FACTOR = 100.0


def load_cifar(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Read CIFAR and cut the long tail.

    Args:
        config: Settings, whose `name` is "cifar10-lt" or "cifar100-lt" (default imbalance factor 100), "cifar10" or
            "cifar100" (default: all images), or the path of a CIFAR folder or archive (default: all images).
        device: Device that holds the images.

    Returns:
        Data set with the official test split. Training images are grouped by class, each class in the shuffled order of
        LDAM, or in the official order if no tail is cut. The split digest covers the indices into the official
        training files, without the images held out by `val_share`.

    Raises:
        InputError: If the data are missing, damaged or reduced to another subset, or a setting is invalid.

    Example:
        >>> load_cifar(DataConfig(name="cifar100-lt", root="nowhere"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no CIFAR-100 in nowhere: looked for ...
    """
    _check_settings(config)
    files = _locate(config)
    records = files.read()
    train_NR, test_NR = np.concatenate(records[:-1]), records[-1]
    factor = config.imbalance_factor
    if factor is None and config.name.endswith("-lt"):
        factor = DEFAULT_IMBALANCE_FACTOR
    indices, protocol = _long_tail(_targets(train_NR, files), files, factor, config)
    notes = _check_origin(files, records, train_NR, indices)
    kept, held = _hold_out(_targets(train_NR, files)[indices], files, config)
    if len(held):
        notes.append(f"{len(held):,} of the {len(indices):,} training images are held out as a validation split.")
    trained_NR = train_NR[indices[kept].numpy()]
    images = _images(trained_NR, files, device)
    mean, std = channel_statistics(images.pixels)
    return Dataset(
        name=config.name,
        class_names=files.cifar.class_names,
        train=Part(images, _targets(trained_NR, files)),
        val=_part(train_NR[indices[held].numpy()], files, device) if len(held) else None,
        test=_part(test_NR, files, device),
        split=Split(protocol + val_suffix(config.val_share), indices_sha256(indices[kept]), len(kept)),
        val_from_train=True,
        imbalance_factor=factor,
        mean=mean,
        std=std,
        load_report=LoadReport(notes=tuple(notes)),
    )


def detect_cifar(path: Path) -> CifarFiles | None:
    """Return the CIFAR files at a path: a folder with the official files, or an archive with the official name.

    Args:
        path: File or folder, which may not exist.

    Example:
        >>> detect_cifar(Path("photos")) is None
        True
    """
    found = [
        CifarFiles(cifar, layout, path)
        for cifar in CIFARS.values()
        for layout in cifar.layouts
        if (path.is_file() and path.name == layout.archive)
        or (path.is_dir() and (path.name == layout.folder or CifarFiles(cifar, layout, path).complete))
    ]
    return found[0] if found else None


def find_cifar(name: str, root: str | None = None) -> CifarFiles:
    """Find the files of a data set in the data folder.

    Args:
        name: "cifar10" or "cifar100".
        root: Folder that holds the official folders or archives, or one of those folders itself. See `data_root` for
            the default.

    Raises:
        InputError: If the files are not found. The message has the places tried and how to get the files.

    Example:
        >>> find_cifar("cifar100", "nowhere")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no CIFAR-100 in nowhere: looked for cifar-100-binary, cifar-100-binary.tar.gz, ...
    """
    if name not in CIFARS:
        raise unknown_name("CIFAR data set", name, CIFARS)
    cifar, base = CIFARS[name], data_root(root)
    entries = [entry for layout in cifar.layouts for entry in (layout.folder, layout.archive)]
    candidates = [detect_cifar(place) for place in (base, *(base / entry for entry in entries))]
    found = [files for files in candidates if files is not None and files.cifar is cifar]
    if not found:
        raise InputError(
            f"no {cifar.title} in {base}: looked for {', '.join(entries)}; get it with `longtail data get {name}`, or "
            "set LONGTAIL_DATA (or `root`) to the folder that holds one of these"
        )
    # an incomplete folder must not hide a complete archive
    return next((files for files in found if files.complete), found[0])


def _check_settings(config: DataConfig) -> None:
    if config.storage == "stream":
        raise InputError(
            f'{config.name} is kept in memory and cannot use `storage` "stream"; write the images as files with '
            "`longtail data export` and stream them from there"
        )
    if config.image_size not in (None, 32):
        raise InputError(f"`image_size` of {config.name} must be 32 pixels, got {config.image_size}; leave it out")
    check_split_options(
        test_per_class=config.test_per_class, val_share=config.val_share, imbalance_factor=config.imbalance_factor
    )


def _locate(config: DataConfig) -> CifarFiles:
    name = config.name.removesuffix("-lt")
    if name in CIFARS:
        return find_cifar(name, config.root)
    path = Path(config.name).expanduser()
    files = detect_cifar(path)
    if files is not None:
        return files
    if path.exists():
        raise InputError(
            f"{path} is neither an official CIFAR folder (or one with all its files) nor an official archive"
        )
    raise unknown_name(
        "CIFAR data set or path", config.name, [known for name in CIFARS for known in (name, f"{name}-lt")]
    )


def _long_tail(targets_N: Tensor, files: CifarFiles, factor: float | None, config: DataConfig) -> tuple[Tensor, str]:
    """Return the indices of the training images, and the name of the protocol that chose them."""
    if factor is None:
        return torch.arange(len(targets_N)), "full"
    num_classes = len(files.cifar.class_names)
    counts = long_tailed_counts(files.cifar.train_images // num_classes, num_classes, factor, config.profile)
    protocol = "ldam-seed0" if config.profile == "exp" else f"ldam-seed0-{config.profile}"
    return long_tailed_indices(targets_N, counts), protocol


def _check_origin(files: CifarFiles, records: list[Bytes], train_NR: Bytes, indices: Tensor) -> list[str]:
    """Note files that are not the official ones, and reject a training set with blank images."""
    checks = zip(files.layout.files, records, files.cifar.digests, strict=True)
    changed = [name for name, records_NR, digest in checks if not is_official(records_NR, digest)]
    if not changed:
        return []
    # a file reduced to one subset keeps its size: the other images are black, which no official image is
    blank = int((train_NR[indices.numpy(), len(files.cifar.label_keys) :].max(axis=1) == 0).sum())
    if blank:
        raise InputError(
            f"{blank:,} of the {len(indices):,} requested training images are blank in {files.path}: it was reduced to "
            f"another subset; get all images with `longtail data get {files.cifar.name}`"
        )
    return [f"Not the official bytes: {', '.join(changed)} in {files.path.name}. No training image is blank."]


def _hold_out(targets_N: Tensor, files: CifarFiles, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Return the positions of the training images and of the validation images."""
    num_classes = len(files.cifar.class_names)
    counts_C = torch.bincount(targets_N, minlength=num_classes)
    return balanced_holdout(targets_N, num_classes, quota_for_val(counts_C, config.val_share), config.seed)


def _targets(records_NR: Bytes, files: CifarFiles) -> Tensor:
    return torch.from_numpy(records_NR[:, len(files.cifar.label_keys) - 1].astype(np.int64))


def _images(records_NR: Bytes, files: CifarFiles, device: torch.device | str) -> ResidentImages:
    pixels = records_NR[:, len(files.cifar.label_keys) :].reshape(-1, 3, 32, 32)
    return ResidentImages(torch.from_numpy(pixels.copy()), device)  # a copy, to free the bytes of the file


def _part(records_NR: Bytes, files: CifarFiles, device: torch.device | str) -> Part:
    return Part(_images(records_NR, files, device), _targets(records_NR, files))
