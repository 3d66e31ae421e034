"""Significance of the difference between two methods, from the test images and seeds they share.

Shapes: S = seeds, N = test images, P = patterns (test images on which the methods agree in every seed), R = draws.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.errors import InputError

LEVEL = 0.95
"""Confidence level of all intervals and significance tests."""


@dataclass(frozen=True)
class Difference:
    """Difference in accuracy between two methods, first minus second, in percentage points.

    Args:
        mean: Mean over seeds and test images.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end of the 95 % bootstrap interval.
        p: Two-sided bootstrap p-value: twice the share of draws on the other side of zero.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    first_SN: npt.ArrayLike,
    second_SN: npt.ArrayLike,
    weights_N: npt.ArrayLike | None = None,
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Difference:
    """Compare the accuracy of two methods trained with the same seeds and tested on the same images.

    Seeds and test images are resampled independently, each with replacement: the pigeonhole bootstrap (Owen, Annals of
    Applied Statistics 2007, https://arxiv.org/abs/0712.1111). Pairing is kept: a seed or an image is drawn for both
    methods. Images with the same outcome in all seeds are drawn as one group by their count, which gives the same
    distribution in less time.

    Args:
        first_SN: Whether the first method is correct, bool, shape (S, N).
        second_SN: Whether the second method is correct, bool, shape (S, N).
        weights_N: Weights >= 0 of the test images, shape (N,). None (default) weights them equally. One over the number
            of test images of the class gives balanced accuracy.
        draws: Number of bootstrap draws R.
        seed: Seed of the draws.

    Returns:
        Mean difference, interval and p-value.

    Raises:
        InputError: If the shapes differ or are empty, or the weights are negative or all zero.

    Example:
        >>> found = paired_bootstrap([[1, 1, 1, 0] * 25], [[1, 0, 1, 0] * 25])
        >>> found.mean, found.significant
        (25.0, True)
    """
    first, second = np.asarray(first_SN, dtype=np.int8), np.asarray(second_SN, dtype=np.int8)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise InputError(
            "a paired comparison needs the same seeds and test images for both methods, shape (S, N), got "
            f"{first.shape} and {second.shape}"
        )
    gain_SP, weight_P, count_P = _patterns(first - second, weights_N)
    num_seeds, num_images = first.shape
    random = np.random.default_rng(seed)
    images_RP = random.multinomial(num_images, count_P / num_images, size=draws) * weight_P
    seeds_RS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=draws) / num_seeds
    total_R = np.maximum(images_RP.sum(1), np.finfo(float).tiny)  # a draw without any weight has difference 0
    drawn_R = 100 * ((seeds_RS @ gain_SP) * images_RP).sum(1) / total_R
    mean = 100 * float((gain_SP.mean(0) * weight_P * count_P).sum() / (weight_P * count_P).sum())
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min(float((drawn_R <= 0).mean()), float((drawn_R >= 0).mean()))
    return Difference(mean, float(low), float(high), min(1.0, max(2 * tail, 1 / draws)))


def _patterns(gain_SN: npt.NDArray[np.int8], weights_N: npt.ArrayLike | None) -> tuple[Any, Any, Any]:
    """Group test images by outcome: differences in each seed (S, P), weight (P,) and number of images (P,)."""
    weights = np.ones(gain_SN.shape[1]) if weights_N is None else np.asarray(weights_N, dtype=float)
    if weights.shape != gain_SN.shape[1:] or (weights < 0).any() or not weights.any():
        lowest = weights.min() if weights.size else None
        raise InputError(
            f"`weights_N` must have one weight >= 0 for each of {gain_SN.shape[1]} test images, not all zero, got "
            f"shape {weights.shape} with the minimum {lowest}"
        )
    levels, level_N = np.unique(weights, return_inverse=True)
    kinds, count_P = np.unique(np.vstack([gain_SN, level_N]), axis=1, return_counts=True)
    return kinds[:-1], levels[kinds[-1]], count_P
