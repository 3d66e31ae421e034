"""Published figures stand beside ours, never among them."""

import dataclasses

import pytest

from longtail.bench.beside import beside
from longtail.bench.formats import markdown
from longtail.bench.table import build_table
from longtail.papers.published import published
from tests.bench.fakes import row


def test_each_published_figure_comes_with_its_distance_and_its_reasons(tmp_path):
    ours = dataclasses.replace(row(tmp_path, "ce", [0.5, 0.4, 0.3], data="cifar100-lt"), published="ce")
    found = list(beside(ours))
    assert [each.published for each in found] == [
        each for each in published("cifar100-lt", 100, "ce") if "top1" in each.scores
    ]
    first = found[0]
    assert first.ours.n == 3
    gap = first.ours.mean - first.published.scores["top1"]
    assert (first.distance > 0) == (gap > 0)
    text = markdown([build_table([ours], ("top1",))], "t")
    assert first.published.place in text
    assert f"{first.distance:+.1f} sd" in text


def test_a_changed_method_and_one_seed_have_nothing_to_compare(tmp_path):
    changed = row(tmp_path, "ce long", [0.5] * 3, data="cifar100-lt")
    assert list(beside(changed)) == []
    one = dataclasses.replace(row(tmp_path / "one", "ce", [0.5] * 3, seeds=1, data="cifar100-lt"), published="ce")
    assert {each.distance for each in beside(one)} == {None}
    assert list(beside(dataclasses.replace(one, published="no-such-recipe"))) == []


@pytest.mark.parametrize("data", ["digits-lt"])
def test_data_of_which_nothing_is_published_give_nothing(tmp_path, data):
    ours = dataclasses.replace(row(tmp_path, "ce", [0.5] * 3, data=data), published="ce")
    assert list(beside(ours)) == []
