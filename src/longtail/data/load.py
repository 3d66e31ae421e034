"""From a data configuration to a data set: the one place that knows which file reads what."""

import torch

from longtail.config import DataConfig
from longtail.data.cifar import is_cifar, load_cifar
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
    if is_cifar(config):
        return load_cifar(config, device)
    return load_own(config, device)
