"""CIFAR-10-LT and CIFAR-100-LT: the long-tailed subsets that most papers of the field train on.

Which images are kept follows LDAM-DRW (Cao et al., NeurIPS 2019, https://github.com/kaidic/LDAM-DRW), seed 0; the test
part is the official one, balanced and whole.

Shapes: N = images, R = bytes of a record, C = classes.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, LoadReport, Part, Split, balanced_holdout
from longtail.data.divide import check_division, held_out_suffix, quota_for_val
from longtail.data.formats.cifar_files import CIFARS, CifarFiles, detect_cifar, find_cifar
from longtail.data.formats.cifar_records import Bytes, is_official, read_cifar
from longtail.data.profiles import indices_sha256, long_tailed_counts, long_tailed_indices
from longtail.data.resident import ResidentImages, channel_statistics
from longtail.errors import InputError, unknown_name

__all__ = ["find_cifar", "load_cifar"]

DEFAULT_IMBALANCE_FACTOR = 100.0


def load_cifar(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Read CIFAR and cut its long tail.

    Args:
        config: `name` is "cifar10-lt" or "cifar100-lt" (imbalance factor 100 where none is given), "cifar10" or
            "cifar100" (all images where none is given), or the path of a CIFAR folder or archive (likewise).
        device: where the images are to live.

    Returns:
        The training part class after class, each class in LDAM's shuffled order (in the official order if no tail is
        cut); the official test part. The split's digest is over the indices, into the official training files, of the
        images that are trained on: without those held out by `val_share`.

    Raises:
        InputError: if the data are not there, damaged or cut down to another subset, or a setting does not fit.

    Example:
        >>> load_cifar(DataConfig(name="cifar100-lt", root="nowhere"))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no CIFAR-100 in nowhere: looked for ...
    """
    _check_settings(config)
    files = _locate(config)
    records = read_cifar(files)
    train_NR, test_NR = np.concatenate(records[:-1]), records[-1]
    factor = config.imbalance_factor
    if factor is None and config.name.endswith("-lt"):
        factor = DEFAULT_IMBALANCE_FACTOR
    indices, protocol = _long_tail(_targets(train_NR, files), files, factor, config)
    notes = _check_origin(files, records, train_NR, indices)
    kept, held = _hold_out(_targets(train_NR, files)[indices], files, config)
    if len(held):
        notes.append(f"{len(held):,} of the {len(indices):,} training images are held out for choices.")
    trained_NR = train_NR[indices[kept].numpy()]
    images = _images(trained_NR, files, device)
    mean, std = channel_statistics(images.pixels)
    return Dataset(
        name=config.name,
        class_names=files.cifar.class_names,
        train=Part(images, _targets(trained_NR, files)),
        val=_part(train_NR[indices[held].numpy()], files, device) if len(held) else None,
        test=_part(test_NR, files, device),
        split=Split(protocol + held_out_suffix(config), indices_sha256(indices[kept]), len(kept)),
        val_from_train=True,
        imbalance_factor=factor,
        mean=mean,
        std=std,
        load_report=LoadReport(notes=tuple(notes)),
    )


def _check_settings(config: DataConfig) -> None:
    if config.storage == "stream":
        raise InputError(
            f"{config.name} lives in memory: leave out --set data.storage=stream, or write the images out with "
            "`longtail data export` and stream them from there"
        )
    if config.image_size not in (None, 32):
        raise InputError(
            f"images of {config.name} have 32 pixels a side, not {config.image_size}; leave out --image-size"
        )
    check_division(config)


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
    """Indices of the training images, and the name of the protocol that picked them."""
    if factor is None:
        return torch.arange(len(targets_N)), "full"
    num_classes = len(files.cifar.class_names)
    counts = long_tailed_counts(files.cifar.train_images // num_classes, num_classes, factor, config.profile)
    protocol = "ldam-seed0" if config.profile == "exp" else f"ldam-seed0-{config.profile}"
    return long_tailed_indices(targets_N, counts), protocol


def _check_origin(files: CifarFiles, records: list[Bytes], train_NR: Bytes, indices: Tensor) -> list[str]:
    """Notes on files that are not the official ones; refuses a training set with images blanked out."""
    checks = zip(files.layout.files, records, files.cifar.digests, strict=True)
    changed = [name for name, records_NR, digest in checks if not is_official(records_NR, digest)]
    if not changed:
        return []
    # a file cut down to one subset keeps its size: what lies outside is black, which no official image is
    blank = int((train_NR[indices.numpy(), len(files.cifar.label_keys) :].max(axis=1) == 0).sum())
    if blank:
        raise InputError(
            f"{blank:,} of the {len(indices):,} training images asked for are blank in {files.path}: it was cut "
            f"down to another subset; get the whole with `longtail data get {files.cifar.name}`"
        )
    return [f"Not the official bytes: {', '.join(changed)} in {files.path.name}; no image trained on is blank, though."]


def _hold_out(targets_N: Tensor, files: CifarFiles, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Positions to train on and positions held out for choices."""
    num_classes = len(files.cifar.class_names)
    counts_C = torch.bincount(targets_N, minlength=num_classes)
    return balanced_holdout(targets_N, num_classes, quota_for_val(counts_C, config.val_share), config.seed)


def _targets(records_NR: Bytes, files: CifarFiles) -> Tensor:
    return torch.from_numpy(records_NR[:, len(files.cifar.label_keys) - 1].astype(np.int64))


def _images(records_NR: Bytes, files: CifarFiles, device: torch.device | str) -> ResidentImages:
    pixels = records_NR[:, len(files.cifar.label_keys) :].reshape(-1, 3, 32, 32)
    return ResidentImages(torch.from_numpy(pixels.copy()), device)  # a copy, to let go of the file's bytes


def _part(records_NR: Bytes, files: CifarFiles, device: torch.device | str) -> Part:
    return Part(_images(records_NR, files, device), _targets(records_NR, files))
