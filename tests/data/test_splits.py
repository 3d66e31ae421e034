import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.data.splits import (
    check_split_options,
    complete_splits,
    first_few,
    long_tailed_counts,
    quota_for_test,
    quota_for_val,
)
from longtail.errors import InputError


def labels(*counts: int) -> Tensor:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(9))]


def names(count: int) -> tuple[str, ...]:
    return tuple(f"class {k}" for k in range(count))


def counts_of(rows: Tensor, targets: Tensor) -> list[int]:
    return np.bincount(targets[rows].numpy(), minlength=int(targets.max()) + 1).tolist()


@pytest.mark.parametrize(
    ("counts", "per_class", "quota"),
    [
        ([100, 100, 100], None, [20, 20, 20]),  # a fifth of the median class
        ([500, 100, 30], None, [10, 10, 10]),  # at most a third of the rarest
        ([500, 50, 2], None, [1, 1, 1]),
        ([500, 50, 1], None, [1, 1, 0]),
        ([500, 50, 4], 10, [10, 10, 3]),
        ([500, 50, 1], 10, [10, 10, 0]),
    ],
)
def test_quota_for_test(counts: list[int], per_class: int | None, quota: list[int]) -> None:
    assert quota_for_test(torch.tensor(counts), per_class).tolist() == quota


@pytest.mark.parametrize(
    ("counts", "share", "quota"),
    [
        ([100, 14, 16], 0.1, [10, 1, 2]),
        ([6, 5, 4, 1], 0.01, [1, 1, 0, 0]),
        ([3, 2, 1], 0.99, [2, 1, 0]),
        ([100, 5], 0.0, [0, 0]),
    ],
)
def test_quota_for_val(counts: list[int], share: float, quota: list[int]) -> None:
    assert quota_for_val(torch.tensor(counts), share).tolist() == quota


def test_nothing_is_done_to_complete_parts() -> None:
    targets = labels(4, 4)
    rows = {"train": torch.arange(4), "val": torch.arange(4, 6), "test": torch.tensor([6, 7])}
    targets[6:8] = torch.tensor([0, 1])
    divided, notes = complete_splits(rows, targets, names(2), val_share=0.5, test_per_class=1)
    assert divided == rows
    assert notes == []


def test_test_and_validation_are_held_out_without_overlap() -> None:
    targets = labels(60, 30, 15)
    divided, notes = complete_splits({"train": torch.arange(105)}, targets, names(3), val_share=0.2)
    assert torch.cat(list(divided.values())).sort().values.tolist() == list(range(105))
    assert counts_of(divided["test"], targets) == [5, 5, 5]
    assert counts_of(divided["val"], targets) == [11, 5, 2]
    for rows in divided.values():
        assert rows.tolist() == sorted(rows.tolist())
    assert notes[0].startswith("The data have no test split: a balanced one of 15 images, 5 per class, was held out")
    assert "(`test_per_class` sets the number)" in notes[0]
    assert notes[1] == "18 training images were held out as a validation split."


def test_the_seed_decides_which_images() -> None:
    targets = labels(60, 30)

    def test_rows(seed: int) -> list[int]:
        return complete_splits({"train": torch.arange(90)}, targets, names(2), seed=seed)[0]["test"].tolist()

    assert test_rows(0) == test_rows(0)
    assert test_rows(0) != test_rows(1)


def test_a_single_image_stays_in_training_and_is_noted() -> None:
    targets = labels(10, 5, 1)
    divided, notes = complete_splits({"train": torch.arange(16)}, targets, names(3))
    assert counts_of(divided["train"], targets) == [9, 4, 1]
    assert notes[1] == "1 of 3 classes have no test image: class 2."


def test_classes_too_small_for_the_requested_number_are_noted() -> None:
    targets = labels(20, 20, 4)
    divided, notes = complete_splits({"train": torch.arange(44)}, targets, names(3), test_per_class=10)
    assert counts_of(divided["test"], targets) == [10, 10, 3]
    assert notes[1].startswith("1 classes have too few images to give 10")


def test_long_tail_is_cut_after_the_test_part() -> None:
    targets = labels(30, 30, 30)
    divided, notes = complete_splits(
        {"train": torch.arange(90)}, targets, names(3), imbalance_factor=9, test_per_class=3
    )
    assert counts_of(divided["train"], targets) == [27, 9, 3]
    assert counts_of(divided["test"], targets) == [3, 3, 3]
    assert "imbalance factor 9 (exp)" in notes[1]
    assert "39 of 81 are left" in notes[1]


@pytest.mark.parametrize(
    ("counts", "factor", "kept"),
    [
        ([10, 30, 2], 4, [5, 11, 2]),  # the second class is the largest: 11, 11 / 2 and 11 / 4, truncated
        ([2, 10, 30], 4, [2, 5, 11]),
        ([10, 30, 2], 2, [3, 5, 2]),  # int(6 / 2) would be one too many of the rarest class
        ([30, 10, 2], 15, [30, 7, 2]),
        ([9, 9, 9], 9, [9, 3, 1]),  # among equals, the first label is the most frequent
        ([3, 9, 9], 9, [1, 9, 3]),
    ],
)
def test_uneven_classes_give_the_largest_tail_they_can_by_their_size(
    counts: list[int], factor: float, kept: list[int]
) -> None:
    targets = labels(*counts)
    rows = {"train": torch.arange(len(targets)), "test": torch.arange(len(targets))}
    divided, _ = complete_splits(rows, targets, names(3), imbalance_factor=factor)
    assert counts_of(divided["train"], targets) == kept


@pytest.mark.parametrize("profile", ["exp", "step", "pareto"])
def test_the_cut_does_not_depend_on_the_order_of_the_labels(profile: str) -> None:
    def kept(*counts: int) -> list[int]:
        targets = labels(*counts)
        rows = {"train": torch.arange(len(targets)), "test": torch.arange(len(targets))}
        divided, _ = complete_splits(rows, targets, names(4), imbalance_factor=9, profile=profile)
        return counts_of(divided["train"], targets)

    assert kept(12, 45, 5, 60) == [kept(60, 45, 12, 5)[rank] for rank in (2, 1, 3, 0)]
    assert profile != "step" or kept(12, 45, 5, 60) == [5, 45, 5, 45]


def test_a_tail_that_is_already_longer_is_noted_with_what_it_costs() -> None:
    targets = labels(2, 10, 1000)
    rows = {"train": torch.arange(1012), "test": torch.arange(1012)}
    divided, notes = complete_splits(rows, targets, names(3), imbalance_factor=4)
    assert counts_of(divided["train"], targets) == [2, 5, 11]
    assert (
        notes[0] == "A long tail with imbalance factor 4 (exp) was cut from the training images: 18 of 1,012 are left."
    )
    assert notes[1].startswith("994 training images were left out because the data are more imbalanced (1,000")
    assert notes[1].endswith("Without `imbalance_factor`, all images are kept.")
    # no second note for balanced data of which little is kept, or a cut that keeps most
    assert len(complete_splits(rows, labels(337, 337, 338), names(3), imbalance_factor=100)[1]) == 1
    assert len(complete_splits(rows, labels(600, 308, 104), names(3), imbalance_factor=5)[1]) == 1


def test_a_tail_that_the_classes_cannot_give() -> None:
    rows = {"train": torch.arange(40), "test": torch.arange(40)}
    with pytest.raises(InputError, match="imbalance factor 50 leaves no image for the rarest class"):
        complete_splits(rows, labels(30, 10), names(2), imbalance_factor=50)


def test_single_images_everywhere() -> None:
    with pytest.raises(InputError, match=r"every class has a single image.*; provide a test split"):
        complete_splits({"train": torch.arange(3)}, labels(1, 1, 1), names(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_per_class": 0}, "`test_per_class` must be >= 1, got 0"),
        ({"val_share": -0.1}, "`val_share` must be >= 0 and < 1, got -0.1"),
        ({"imbalance_factor": 0.5}, "`imbalance_factor` must be >= 1, got 0.5"),
    ],
)
def test_options_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_split_options(**options)


def test_first_few() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(list("abc")) == "a, b, c"
    assert first_few(list("abcde")) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("num_max", "num_classes", "totals"),
    [(5000, 10, (20431, 13996, 12406, 11203)), (500, 100, (19573, 12608, 10847, 9502))],
)
def test_published_totals(num_max, num_classes, totals):
    for factor, total in zip((10, 50, 100, 200), totals, strict=True):
        assert int(long_tailed_counts(num_max, num_classes, factor).sum()) == total
