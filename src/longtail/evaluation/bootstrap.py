"""Whether a difference between two methods is more than chance, by the test images and seeds they share.

Shapes: S = seeds, N = test images, P = patterns (kinds of test image that the two methods treat alike), R = draws.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from longtail.errors import InputError

LEVEL = 0.95
"""Of every interval, and one minus the level of every mark of significance."""


@dataclass(frozen=True)
class Difference:
    """How much more accurate one method is than another, in points.

    Args:
        mean: over seeds and test images.
        low: lower end of the 95 % interval of the bootstrap.
        high: upper end.
        p: share of the draws on the other side of zero, doubled: small where chance is a poor explanation.
    """

    mean: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    first_SN: npt.ArrayLike,
    second_SN: npt.ArrayLike,
    weights_N: npt.ArrayLike | None = None,
    *,
    draws: int = 4000,
    seed: int = 0,
) -> Difference:
    """The difference in accuracy of two methods that were trained with the same seeds and tested on the same images.

    Seeds and test images are drawn anew, both at once and each with replacement, as often as `draws` (the pigeonhole
    bootstrap: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007, https://arxiv.org/abs/0712.1111).
    The pairing stays: a seed or an image is drawn for both methods. Images that meet the same fate in all seeds are
    counted rather than drawn one by one, which changes nothing but the time.

    Args:
        first_SN: whether the first method was right, shape (S, N).
        second_SN: whether the second was.
        weights_N: of the test images, not negative; None weighs all alike. Balanced accuracy: one over the class size.
        draws: R.
        seed: of the draws; the same one gives the same interval.

    Raises:
        InputError: if the shapes differ or are empty, or the weights are negative or all zero.

    Example:
        >>> found = paired_bootstrap([[1, 1, 1, 0] * 25], [[1, 0, 1, 0] * 25])
        >>> found.mean, found.significant
        (25.0, True)
    """
    first, second = np.asarray(first_SN, dtype=np.int8), np.asarray(second_SN, dtype=np.int8)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise InputError(
            f"a paired comparison needs the same seeds and test images on both sides (a row per seed, a column per "
            f"image), not {first.shape} and {second.shape}"
        )
    gain_SP, weight_P, count_P = _patterns(first - second, weights_N)
    num_seeds, num_images = first.shape
    random = np.random.default_rng(seed)
    images_RP = random.multinomial(num_images, count_P / num_images, size=draws) * weight_P
    seeds_RS = random.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size=draws) / num_seeds
    total_R = np.maximum(images_RP.sum(1), np.finfo(float).tiny)  # no image with a weight in a draw: no difference
    drawn_R = 100 * ((seeds_RS @ gain_SP) * images_RP).sum(1) / total_R
    mean = 100 * float((gain_SP.mean(0) * weight_P * count_P).sum() / (weight_P * count_P).sum())
    low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    tail = min(float((drawn_R <= 0).mean()), float((drawn_R >= 0).mean()))
    return Difference(mean, float(low), float(high), min(1.0, max(2 * tail, 1 / draws)))


def _patterns(gain_SN: npt.NDArray[np.int8], weights_N: npt.ArrayLike | None) -> tuple[Any, Any, Any]:
    """Test images by kind: how they fared in each seed (S, P), their weight (P,), and how many there are (P,)."""
    weights = np.ones(gain_SN.shape[1]) if weights_N is None else np.asarray(weights_N, dtype=float)
    if weights.shape != gain_SN.shape[1:] or (weights < 0).any() or not weights.any():
        raise InputError(
            f"the weights must be one number per test image, {gain_SN.shape[1]} of them, not negative and not all "
            f"zero; their shape is {weights.shape}"
        )
    levels, level_N = np.unique(weights, return_inverse=True)
    kinds, count_P = np.unique(np.vstack([gain_SN, level_N]), axis=1, return_counts=True)
    return kinds[:-1], levels[kinds[-1]], count_P
