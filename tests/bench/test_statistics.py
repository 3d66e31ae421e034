"""Intervals against textbook values."""

import numpy as np
import pytest
from scipy import stats

from longtail.bench.statistics import summarize


def test_the_interval_is_students():
    values = [51.2, 50.1, 52.9, 50.8, 51.0]
    found = summarize(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.mean, found.sd, found.n) == pytest.approx((np.mean(values), np.std(values, ddof=1), 5))


def test_an_interval_ends_where_scores_end():
    found = summarize([99.0, 90.0, 99.5], 0, 100)
    assert (found.low, found.high) == (pytest.approx(82.9, abs=0.1), 100)
    assert summarize([1.0, 9.0], 0, 100).low == 0


def test_one_seed_has_no_spread_and_none_no_summary():
    one = summarize([50.0, None])
    assert (one.mean, one.n, one.sd, one.low, one.high) == (50.0, 1, None, None, None)
    assert summarize([None]) is None
