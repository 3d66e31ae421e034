"""Analyses of a split against loops, scikit-learn and NumPy, and their error messages."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import Tensor

from longtail.errors import InputError
from longtail.posthoc.dlsa.analysis import (
    accuracy_by_level,
    confusion_difference,
    frequency_bins,
    group_confusion,
    oracle_groups,
    purity_histogram,
    shares_by_level,
)

CLASSES, LEVELS = 6, 2
COUNTS = torch.tensor([9, 500, 40, 120, 3, 41])
GROUPS = {"many": COUNTS > 100, "medium": (COUNTS <= 100) & (COUNTS >= 20), "few": COUNTS < 20}


def draw(high: int, seed: int, num: int = 200) -> Tensor:
    return torch.randint(high, (num,), generator=torch.Generator().manual_seed(seed))


def test_shares_by_level_are_those_of_a_loop():
    level, targets = draw(LEVELS + 1, 0), draw(CLASSES, 1)
    found = shares_by_level(level, targets, GROUPS, LEVELS)
    for name, members in GROUPS.items():
        own = [int(m) for m, y in zip(level, targets, strict=True) if members[y]]
        assert found[name] == pytest.approx([100 * own.count(m) / len(own) for m in range(LEVELS + 1)])
        assert sum(found[name]) == pytest.approx(100)


def test_a_group_without_an_example_has_no_share():
    assert shares_by_level(torch.tensor([0]), torch.tensor([1]), GROUPS, 1)["few"] == (None, None)


@pytest.mark.parametrize("num_bins", [1, 2, 4, 6])
def test_frequency_bins_hold_every_class_once_the_fullest_first(num_bins):
    bins = frequency_bins(COUNTS, num_bins)
    assert len(bins) == num_bins
    assert torch.stack(list(bins.values())).sum(dim=0).tolist() == [1] * CLASSES
    lowest = [int(COUNTS[mask].min()) for mask in bins.values()]
    highest = [int(COUNTS[mask].max()) for mask in bins.values()]
    assert all(low >= high for low, high in zip(lowest, highest[1:], strict=False))
    assert list(bins) == [f"{high}-{low}" for high, low in zip(highest, lowest, strict=True)]


def test_bins_of_equal_counts_keep_their_own_names():
    assert len(frequency_bins(torch.tensor([5, 5, 5, 5]), 2)) == 2
    with pytest.raises(InputError, match="`num_bins` must be 1 to 4, the number of classes, got 5"):
        frequency_bins(torch.tensor([5, 5, 5, 5]), 5)


def test_accuracy_by_level_is_scikit_learns_on_each_subset():
    level, targets = draw(LEVELS, 2), draw(CLASSES, 3)  # the last level is empty
    predicted = {"a": draw(CLASSES, 4), "b": torch.where(draw(2, 5).bool(), targets, draw(CLASSES, 6))}
    found = accuracy_by_level(predicted, targets, level, LEVELS)
    for name, labels in predicted.items():
        for m in range(LEVELS):
            own = level == m
            assert found[name][m] == pytest.approx(100 * accuracy_score(targets[own], labels[own]))
        assert found[name][LEVELS] is None


def test_group_confusion_adds_up_scikit_learns_matrix():
    targets, predicted = draw(CLASSES, 7), draw(CLASSES, 8)
    matrix = confusion_matrix(targets, predicted, labels=range(CLASSES))
    masks = [mask.numpy() for mask in GROUPS.values()]
    counts = np.array([[matrix[np.ix_(row, column)].sum() for column in masks] for row in masks])
    expected = 100 * counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(group_confusion(predicted, targets, GROUPS).numpy(), expected)


def test_the_difference_of_confusions_is_by_falling_frequency():
    targets, before, after = draw(CLASSES, 9), draw(CLASSES, 10), draw(CLASSES, 11)
    order = np.argsort(-COUNTS.numpy(), kind="stable")

    def shares(predicted: Tensor) -> np.ndarray:
        return 100 * confusion_matrix(targets, predicted, labels=order, normalize="true")

    found = confusion_difference(before, after, targets, COUNTS)
    np.testing.assert_allclose(found.numpy(), shares(after) - shares(before), atol=1e-9)
    np.testing.assert_allclose(found.sum(dim=1).numpy(), 0, atol=1e-9)


def test_a_class_without_an_example_changes_nothing():
    found = confusion_difference(torch.tensor([0]), torch.tensor([1]), torch.tensor([1]), torch.tensor([5, 5]))
    assert found.tolist() == [[0.0, 0.0], [-100.0, 100.0]]


def test_the_histogram_of_purity_is_numpys():
    generator = torch.Generator().manual_seed(0)
    sizes, purity = draw(60, 12), torch.rand(200, generator=generator)
    found = purity_histogram(sizes, purity, (1, 11, 21), (0.0, 0.25, 0.5, 0.75))
    filled = sizes > 0
    expected, _, _ = np.histogram2d(
        sizes[filled].numpy(), purity[filled].numpy(), bins=[[1, 11, 21, 100], [0, 0.25, 0.5, 0.75, 1]]
    )
    assert found.tolist() == expected.astype(int).tolist()
    assert int(found.sum()) == int(filled.sum())


def test_a_cluster_at_an_edge_belongs_above_it():
    found = purity_histogram(torch.tensor([10, 11]), torch.tensor([0.7, 1.0]), (1, 11), (0.0, 0.7))
    assert found.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("p", [0.5, 0.8, 1.0])
def test_the_oracle_sends_head_one_way_and_tail_the_other(p):
    targets = torch.tensor([0, 1]).repeat(20_000)
    group = oracle_groups(targets, torch.tensor([True, False]), p, torch.Generator().manual_seed(0))
    assert float((group[targets == 0] == 0).float().mean()) == pytest.approx(p, abs=0.02)
    assert float((group[targets == 1] == 1).float().mean()) == pytest.approx(p, abs=0.02)


def test_numbers_that_do_not_fit_are_refused():
    level, targets = draw(LEVELS + 1, 0), draw(CLASSES, 1)
    with pytest.raises(InputError, match="levels must be in 0 to 1, got 0 to 2"):
        shares_by_level(level, targets, GROUPS, 1)
    with pytest.raises(
        InputError, match=r"one value for each of N >= 1 examples, got \{'levels': 200, 'targets': 199\}"
    ):
        shares_by_level(level, targets[1:], GROUPS, LEVELS)
    with pytest.raises(InputError, match="N >= 1 examples"):
        group_confusion(targets[:0], targets[:0], GROUPS)
    with pytest.raises(InputError, match="a has 199 predicted labels for 200 targets"):
        accuracy_by_level({"a": targets[1:]}, targets, level, LEVELS)
    with pytest.raises(InputError, match="labels predicted after must be in 0 to 5, got 1 to 6"):
        confusion_difference(targets, draw(CLASSES, 1) + 1, targets, COUNTS)
    with pytest.raises(InputError, match=r"`separation` must be a probability, .* got 1.5"):
        oracle_groups(targets, COUNTS > 20, 1.5, torch.Generator())
