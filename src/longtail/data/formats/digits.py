"""`digits-lt`: scikit-learn's handwritten digits (1,797 real images of 8 x 8 pixels), made long-tailed.

It trains in seconds on a CPU and comes with scikit-learn, so that everything can be tried without a download.
The data are those of Alpaydin and Kaynak (1998, https://doi.org/10.24432/C50P49), where they are the test part.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Part, Split, balanced_holdout
from longtail.data.divide import check_division, held_out_suffix, quota_for_val
from longtail.data.profiles import indices_sha256, long_tailed_counts, long_tailed_indices
from longtail.data.resident import ResidentImages, channel_statistics

TEST_PER_CLASS = 50
NUM_MAX = 124  # what the emptiest digit has left beside the test part
IMBALANCE_FACTOR = 20.0


def load_digits_lt(config: DataConfig, device: torch.device) -> Dataset:
    """The digits with a balanced test part of 50 images per class; 0 is the fullest class and 9 the emptiest.

    Args:
        config: `imbalance_factor` (20 by default: 124 down to 6 images), `profile`, `val_share` and `seed` are used.
        device: where the images live.

    Raises:
        InputError: if a setting is out of range, or the imbalance factor leaves a class without an image.

    Example:
        >>> digits = load_digits_lt(DataConfig(), torch.device("cpu"))
        >>> digits.class_counts.counts.tolist(), len(digits.test)
        ([124, 88, 63, 45, 32, 23, 16, 12, 8, 6], 500)
    """
    check_division(config)
    pixels, labels = _all_digits()
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
        split=Split(f"digits-seed{config.seed}{held_out_suffix(config)}", indices_sha256(kept[train]), len(train)),
        val_from_train=True,
        imbalance_factor=factor,
        mean=mean,
        std=std,
    )


def _all_digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    grey_NHW = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)
    return grey_NHW.unsqueeze(1).repeat(1, 3, 1, 1), torch.from_numpy(digits.target).long()
