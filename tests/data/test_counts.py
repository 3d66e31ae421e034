from collections import Counter

import numpy as np
import pytest
import torch

from longtail.data import ClassCounts
from longtail.errors import InputError


def test_statistics():
    counts = ClassCounts(torch.tensor([60, 0, 30, 10]))
    assert (len(counts), counts.total, counts.imbalance_factor) == (4, 100, 6.0)
    assert counts.prior.tolist() == pytest.approx([0.6, 0.0, 0.3, 0.1])
    assert counts.counts.dtype == torch.int64
    assert ClassCounts(counts).counts is counts.counts


def test_a_mapping_is_read_by_its_labels():
    labels = [2] * 5 + [0] * 3 + [3]
    assert ClassCounts(Counter(labels)).counts.tolist() == [3, 0, 5, 1]
    assert ClassCounts({np.int64(1): 4, 0: 7}).counts.tolist() == [7, 4]
    for wrong in ({"cat": 5, "dog": 3}, {-1: 5, 0: 3}, {0.5: 5, 1: 3}, {}):
        with pytest.raises(InputError, match="labels of class counts must be integers >= 0, got"):
            ClassCounts(wrong)


def test_a_series_is_read_by_its_labels():
    pandas = pytest.importorskip("pandas")
    assert ClassCounts(pandas.Series([2, 2, 0, 2, 1, 0]).value_counts()).counts.tolist() == [2, 1, 3]  # sorted by count
    assert ClassCounts(pandas.Series([7, 4])).counts.tolist() == [7, 4]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_counts_of_any_number_type(dtype):
    assert ClassCounts(np.array([7, 4], dtype=dtype)).counts.tolist() == [7, 4]


def test_fixed_groups_at_their_limits():
    counts = ClassCounts([101, 100, 20, 19])
    groups = {name: mask.tolist() for name, mask in counts.groups().items()}
    assert groups == {
        "many": [True, False, False, False],
        "medium": [False, True, True, False],
        "few": [False, False, False, True],
    }
    assert counts.groups(many_closed=True)["many"].tolist() == [True, True, False, False]


def test_quantile_groups_follow_rank_and_cover_every_class_once():
    groups = ClassCounts([1, 5, 5, 9, 2]).quantile_groups((0.4, 0.2))
    assert groups["many"].tolist() == [False, True, False, True, False]
    assert groups["medium"].tolist() == [False, False, True, False, False]
    assert sum(groups.values()).tolist() == [1] * 5


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([5], r"at least two classes in one dimension, got shape \(1,\)"),
        ([[5, 5]], r"got shape \(1, 2\)"),
        ([0.5, 1.0], "whole numbers of images"),
        ([float("inf"), 1.0], "whole numbers of images"),
        (["cat", "dog"], "integers in the order of the labels"),
        ([0, 0], "at least one class with an image"),
        ([5, -1], ">= 0, but class 1 has -1"),
    ],
)
def test_invalid_counts(counts, message):
    with pytest.raises(InputError, match=message):
        ClassCounts(counts)


def test_invalid_arguments():
    with pytest.raises(InputError, match="below the number of classes, 2, got 2"):
        ClassCounts.from_targets(torch.tensor([0, 2]), 2)
    with pytest.raises(InputError, match="`few` must be at most `many`, got few=30 and many=20"):
        ClassCounts([5, 5]).groups(many=20, few=30)
    with pytest.raises(InputError, match=r"`shares` must be >= 0 and sum to at most 1, got \(0.9, 0.2\)"):
        ClassCounts([5, 5]).quantile_groups((0.9, 0.2))
