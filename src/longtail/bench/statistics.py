"""What a few seeds can say: means with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from longtail.evaluation.bootstrap import LEVEL


@dataclass(frozen=True)
class Summary:
    """A score over seeds.

    Args:
        mean: over the seeds.
        sd: standard deviation over the seeds (n - 1 in the denominator); None for one seed.
        n: seeds.
        low: lower end of Student's 95 % interval of the mean; None for one seed.
        high: upper end.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None


def summarize(values: Sequence[float | None], least: float = -math.inf, most: float = math.inf) -> Summary | None:
    """Mean, standard deviation and Student's interval of the values that are known; None where none is.

    Args:
        values: one for each seed.
        least: what no value can lie under, nor then the interval.
        most: what no value can lie above.

    Example:
        >>> found = summarize([1.0, 2.0, 3.0, None])
        >>> found.mean, found.sd, found.n, round(found.low, 2), round(found.high, 2)
        (2.0, 1.0, 3, -0.48, 4.48)
    """
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return None
    mean = float(known.mean())
    if len(known) == 1:
        return Summary(mean, None, 1, None, None)
    sd = float(known.std(ddof=1))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * sd / math.sqrt(len(known))
    return Summary(mean, sd, len(known), max(mean - reach, least), min(mean + reach, most))
