import numpy as np
import pytest
import torch
from torch import Tensor

from longtail.config import DataConfig
from longtail.data.divide import check_division, divide, first_few, quota_for_test, quota_for_val
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
        ([500, 100, 30], None, [10, 10, 10]),  # no more than a third of the rarest
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
    divided, notes = divide(rows, targets, names(2), DataConfig(val_share=0.5, test_per_class=1))
    assert divided == rows
    assert notes == []


def test_test_and_validation_are_held_out_without_overlap() -> None:
    targets = labels(60, 30, 15)
    divided, notes = divide({"train": torch.arange(105)}, targets, names(3), DataConfig(val_share=0.2))
    assert torch.cat(list(divided.values())).sort().values.tolist() == list(range(105))
    assert counts_of(divided["test"], targets) == [5, 5, 5]
    assert counts_of(divided["val"], targets) == [11, 5, 2]
    for rows in divided.values():
        assert rows.tolist() == sorted(rows.tolist())
    assert notes[0].startswith("The data bring no test part: a balanced one of 15 images, 5 per class, was held out")
    assert notes[1] == "18 training images were held out for choices."


def test_the_seed_decides_which_images() -> None:
    targets = labels(60, 30)

    def test_rows(seed: int) -> list[int]:
        return divide({"train": torch.arange(90)}, targets, names(2), DataConfig(seed=seed))[0]["test"].tolist()

    assert test_rows(0) == test_rows(0)
    assert test_rows(0) != test_rows(1)


def test_a_single_image_is_learnt_from_and_noted() -> None:
    targets = labels(10, 5, 1)
    divided, notes = divide({"train": torch.arange(16)}, targets, names(3), DataConfig())
    assert counts_of(divided["train"], targets) == [9, 4, 1]
    assert notes[1] == "1 of 3 classes have no test image: class 2."


def test_classes_too_small_for_the_number_asked_for_are_noted() -> None:
    targets = labels(20, 20, 4)
    divided, notes = divide({"train": torch.arange(44)}, targets, names(3), DataConfig(test_per_class=10))
    assert counts_of(divided["test"], targets) == [10, 10, 3]
    assert notes[1].startswith("1 classes have too few images to give 10")


def test_long_tail_is_cut_after_the_test_part() -> None:
    targets = labels(30, 30, 30)
    config = DataConfig(imbalance_factor=9, test_per_class=3)
    divided, notes = divide({"train": torch.arange(90)}, targets, names(3), config)
    assert counts_of(divided["train"], targets) == [27, 9, 3]
    assert counts_of(divided["test"], targets) == [3, 3, 3]
    assert "imbalance factor 9 (exp)" in notes[1]
    assert "39 of 81 are left" in notes[1]


def test_uneven_classes_give_the_largest_tail_they_can() -> None:
    targets = labels(10, 30, 2)
    rows = {"train": torch.arange(42), "test": torch.arange(42)}
    divided, _ = divide(rows, targets, names(3), DataConfig(imbalance_factor=4))
    assert counts_of(divided["train"], targets) == [10, 5, 2]
    divided, _ = divide(rows, targets, names(3), DataConfig(imbalance_factor=2))
    assert counts_of(divided["train"], targets) == [5, 3, 2]  # int(6 / 2) would be one too many of the last class


def test_a_tail_that_the_classes_cannot_give() -> None:
    rows = {"train": torch.arange(40), "test": torch.arange(40)}
    with pytest.raises(InputError, match="imbalance factor 50 leaves no image for the rarest class"):
        divide(rows, labels(30, 10), names(2), DataConfig(imbalance_factor=50))


def test_single_images_everywhere() -> None:
    with pytest.raises(InputError, match=r"every class has a single image.*; give a test part"):
        divide({"train": torch.arange(3)}, labels(1, 1, 1), names(3), DataConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DataConfig(test_per_class=0), "test_per_class must be at least 1, not 0"),
        (DataConfig(val_share=-0.1), "val_share must be at least 0 and less than 1, not -0.1"),
        (DataConfig(imbalance_factor=0.5), "imbalance_factor must be at least 1, not 0.5"),
    ],
)
def test_settings_out_of_range(config: DataConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_division(config)


def test_first_few() -> None:
    assert first_few(["a"]) == "a"
    assert first_few(list("abc")) == "a, b, c"
    assert first_few(list("abcde")) == "a, b, c and 2 more"
