"""The bootstrap against exact enumeration, and the coverage of its intervals."""

import itertools

import numpy as np
import pytest
from scipy import stats

from longtail.errors import InputError
from longtail.evaluation import paired_bootstrap


def test_the_bootstrap_agrees_with_all_draws_of_a_small_case():
    """With two seeds and three images, all 4 x 27 equally likely draws are enumerated."""
    first, second = np.array([[1, 1, 0], [1, 1, 1]]), np.array([[1, 0, 0], [0, 0, 1]])
    gain = (first - second).astype(float)
    exact = [
        100 * gain[np.ix_(seeds, images)].mean()
        for seeds in itertools.product(range(2), repeat=2)
        for images in itertools.product(range(3), repeat=3)
    ]
    found = paired_bootstrap(first, second, draws=40_000)
    assert found.mean == pytest.approx(100 * gain.mean())
    tail = np.mean(np.array(exact) <= 1e-9)
    assert found.p == pytest.approx(2 * tail, abs=0.01)
    assert found.low == pytest.approx(np.quantile(exact, 0.025, method="inverted_cdf"), abs=1e-6)
    assert found.high == pytest.approx(np.quantile(exact, 0.975, method="inverted_cdf"), abs=1e-6)


def test_the_weights_make_balanced_accuracy():
    first = [[1, 1, 1, 1, 0]]
    second = [[1, 1, 1, 1, 1]]
    weights = [1 / 4] * 4 + [1]
    assert paired_bootstrap(first, second, weights).mean == pytest.approx(-50)
    assert paired_bootstrap(first, second).mean == pytest.approx(-20)


def test_an_image_of_weight_zero_counts_for_nothing():
    random = np.random.default_rng(1)
    first, second = random.random((3, 60)) < 0.7, random.random((3, 60)) < 0.6
    padded = np.hstack([first, np.ones((3, 5))]), np.hstack([second, np.zeros((3, 5))])
    found = paired_bootstrap(*padded, weights_N=[1] * 60 + [0] * 5)
    assert found.mean == pytest.approx(paired_bootstrap(first, second).mean)


def test_the_same_draws_each_time_and_the_opposite_sign_the_other_way_round():
    random = np.random.default_rng(2)
    first, second = random.random((2, 200)) < 0.8, random.random((2, 200)) < 0.7
    found, again, turned = (paired_bootstrap(*pair) for pair in ((first, second), (first, second), (second, first)))
    assert found == again
    assert turned.mean == pytest.approx(-found.mean)
    assert turned.significant == found.significant


def test_equal_methods_do_not_differ():
    same = np.random.default_rng(3).random((3, 100)) < 0.5
    found = paired_bootstrap(same, same)
    assert (found.mean, found.low, found.high, found.p, found.significant) == (0, 0, 0, 1, False)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_interval_covers_the_truth(num_seeds):
    """Images differ in difficulty and seeds in accuracy; the first method is 3 points better where possible."""
    random = np.random.default_rng(4)
    truth = 3 * float(stats.norm.cdf(stats.norm.ppf(0.97) - 0.5))
    covered = 0
    for trial in range(100):
        chance_N = stats.norm.cdf(random.normal(0.5, 1, 400))
        luck_S1 = random.normal(0, 0.002, (num_seeds, 1)) if num_seeds > 1 else 0
        first = random.random((num_seeds, 400)) < np.clip(chance_N + luck_S1 + 0.03 * (chance_N < 0.97), 0, 1)
        second = random.random((num_seeds, 400)) < chance_N
        found = paired_bootstrap(first, second, draws=300, seed=trial)
        covered += found.low <= truth <= found.high
    assert 88 <= covered <= 100


def test_what_is_not_paired_is_refused():
    with pytest.raises(InputError, match=r"same seeds and test images.*\(1, 3\) and \(1, 4\)"):
        paired_bootstrap([[1, 0, 1]], [[1, 0, 1, 1]])
    with pytest.raises(InputError, match="one weight >= 0 for each of 3 test images"):
        paired_bootstrap([[1, 0, 1]], [[1, 0, 1]], [1, -1, 1])
    with pytest.raises(InputError, match="not all zero"):
        paired_bootstrap([[1, 0, 1]], [[1, 0, 1]], [0, 0, 0])
