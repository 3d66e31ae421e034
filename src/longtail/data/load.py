"""From a data configuration to a data set: the one place that knows which file reads what."""

from pathlib import Path

import torch

from longtail._logging import progress_bar
from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset
from longtail.data.formats.cifar import load_cifar
from longtail.data.formats.cifar_files import CIFARS, detect_cifar
from longtail.data.formats.digits import load_digits_lt
from longtail.data.formats.feature_dataset import load_feature_data
from longtail.data.formats.features import holds_features
from longtail.data.own import load_own
from longtail.errors import InputError, nearest

NAMES = ("digits-lt", "cifar10-lt", "cifar100-lt", "cifar10", "cifar100", "imagenet-lt", "places-lt", "inat18")


def load_data(config: DataConfig, device: torch.device) -> Dataset:
    """Read a data set by name or path.

    Args:
        config: which, and how.
        device: where small images are kept.

    Raises:
        InputError: if it can not be found or read; the message says what is needed.
    """
    if config.name not in NAMES and not Path(config.name).expanduser().exists():
        near = nearest(config.name, NAMES)
        wanted = f"one of {', '.join(NAMES)}, a folder that holds a folder per class, a table or a list"
        hint = f"did you mean {' or '.join(near)}?" if near else f"give {wanted}"
        raise InputError(f"there is no data set and no file or folder {config.name!r}; {hint}")
    if config.name == "digits-lt":
        return load_digits_lt(config, device)
    if holds_features(Path(config.name).expanduser()):
        return load_feature_data(config, device)
    if config.name.removesuffix("-lt") in CIFARS or detect_cifar(Path(config.name).expanduser()) is not None:
        return load_cifar(config, device)
    with progress_bar("reading images", 1) as bar:
        return load_own(config, device, bar.moved_to)
