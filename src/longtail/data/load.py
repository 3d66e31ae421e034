"""From a data configuration to a data set: the one place that knows which file reads what."""

from pathlib import Path

import torch

from longtail.config import DataConfig
from longtail.console import progress_bar
from longtail.data.cifar import load_cifar
from longtail.data.cifar_files import CIFARS, detect_cifar
from longtail.data.dataset import Dataset
from longtail.data.digits import load_digits_lt
from longtail.data.own import load_own


def load_data(config: DataConfig, device: torch.device) -> Dataset:
    """Read a data set by name or path.

    Args:
        config: which, and how.
        device: where small images are kept.

    Raises:
        InputError: if it can not be found or read; the message says what is needed.
    """
    if config.name == "digits-lt":
        return load_digits_lt(config, device)
    if config.name.removesuffix("-lt") in CIFARS or detect_cifar(Path(config.name).expanduser()) is not None:
        return load_cifar(config, device)
    with progress_bar("reading images", 1) as bar:
        return load_own(config, device, bar.moved_to)
