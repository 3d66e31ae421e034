"""`digits-lt`: the handwritten digits of scikit-learn (1,797 real images of 8 x 8 pixels), made long-tailed.

It trains in seconds on a CPU and comes with scikit-learn, so everything can be tried without a download. The data are
the test set of Alpaydin and Kaynak (1998, https://doi.org/10.24432/C50P49).
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Part, Split
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

TEST_PER_CLASS = 50
NUM_MAX = 124  # images left of the least frequent digit after the test split
IMBALANCE_FACTOR = 20.0


def load_digits_lt(config: DataConfig, device: torch.device | str = "cpu") -> Dataset:
    """Load the digits with a balanced test split of 50 images per class.

    Digit 0 is the most frequent class and digit 9 the least frequent one.

    Args:
        config: Settings, of which `imbalance_factor` (default 20: 124 to 6 images), `profile`, `val_share` and `seed`
            are used.
        device: Device that holds the images.

    Raises:
        InputError: If a setting is out of range, or the imbalance factor leaves a class without an image.

    Example:
        >>> digits = load_digits_lt(DataConfig())
        >>> digits.class_counts.counts.tolist(), len(digits.test)
        ([124, 88, 63, 45, 32, 23, 16, 12, 8, 6], 500)
    """
    check_split_options(
        test_per_class=config.test_per_class, val_share=config.val_share, imbalance_factor=config.imbalance_factor
    )
    pixels, labels = _read_digits()
    pool, test = balanced_holdout(labels, 10, torch.full((10,), TEST_PER_CLASS), config.seed)
    factor = config.imbalance_factor or IMBALANCE_FACTOR
    counts = long_tailed_counts(NUM_MAX, 10, factor, config.profile)
    kept = pool[long_tailed_indices(labels[pool], counts, config.seed)]
    train, val = balanced_holdout(labels[kept], 10, quota_for_val(counts, config.val_share), config.seed)
    images = ResidentImages(pixels, device)
    mean, std = channel_statistics(pixels[kept[train]])
    return Dataset(
        name=config.name,
        class_names=tuple(str(digit) for digit in range(10)),
        train=Part(images.subset(kept[train]), labels[kept[train]]),
        val=Part(images.subset(kept[val]), labels[kept[val]]) if len(val) else None,
        test=Part(images.subset(test), labels[test]),
        split=Split(f"digits-seed{config.seed}{val_suffix(config.val_share)}", indices_sha256(kept[train]), len(train)),
        val_from_train=True,
        imbalance_factor=factor,
        mean=mean,
        std=std,
    )


def _read_digits() -> tuple[Tensor, Tensor]:
    rows = np.loadtxt(_file(), delimiter=",")
    gray_NHW = torch.from_numpy(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).round().to(torch.uint8)
    return gray_NHW.unsqueeze(1).repeat(1, 3, 1, 1), torch.from_numpy(rows[:, -1]).long()


def _file() -> Path:
    """Return the file of scikit-learn, whose import would take longer than the training to its first step."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
