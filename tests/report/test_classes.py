import pytest
import torch

from longtail.errors import InputError
from longtail.evaluation import shot_groups
from longtail.report.classes import Classes

COUNTS = torch.tensor([5, 300, 101, 100, 20, 19])
NAMES = tuple("abcdef")


def test_groups_are_those_the_scores_use() -> None:
    classes = Classes.grouped(NAMES, COUNTS)
    expected = shot_groups(COUNTS)
    assert {name: mask.tolist() for name, mask in classes.masks.items()} == {
        name: mask.tolist() for name, mask in expected.items()
    }
    assert classes.group_names == ("few", "many", "many", "medium", "medium", "few")


def test_limits_say_what_the_run_used() -> None:
    classes = Classes.grouped(NAMES, COUNTS, many=1500, few=6)
    assert classes.limits["many"] == "more than 1,500 training images"
    assert classes.limits["medium"] == "6 to 1,500 training images"
    assert classes.filled == ("medium", "few")


def test_quantile_groups_are_described_as_thirds() -> None:
    classes = Classes.grouped(NAMES, COUNTS, groups="quantile")
    assert classes.group_names == ("few", "many", "many", "medium", "medium", "few")
    assert "third" in classes.limits["few"]


def test_the_order_is_by_count_and_ties_keep_the_order_of_the_labels() -> None:
    assert Classes.grouped(tuple("abc"), torch.tensor([7, 9, 7])).order.tolist() == [1, 0, 2]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean quantile"):
        Classes.grouped(NAMES, COUNTS, groups="quantiles")  # type: ignore[arg-type]
