"""The page as a browser would read it."""

import re
from pathlib import Path

import pytest
import torch

from longtail.data import long_tailed_counts
from longtail.errors import InputError
from longtail.evaluation import Predictions
from longtail.report.comparison import Comparison, write_comparison
from longtail.report.comparison.page import page

from ..report.conftest import EVIL, Page
from ..report.test_html import assert_loads_nothing, picture
from .made_up import predictions, together, told


def test_each_pair_has_its_section_and_every_link_leads_somewhere() -> None:
    text = page(together(predictions(0.6), predictions(0.2), predictions(-0.2), thumbnails=picture))
    found = Page(text)
    ids = found.ids()
    keys = ("overview", "pair-1", "pair-1-classes", "pair-2", "pair-2-classes", "about")
    assert [key for key in ids if key in keys] == list(keys)
    assert len(set(ids)) == len(ids)
    links = [attributes["href"][1:] for tag, attributes in found.elements if tag == "a"]
    assert links == ["overview", "pair-1", "pair-2", "about"]
    assert found.open == []
    assert found.texts["h1"] == ["two and three against one"]
    assert_loads_nothing(text, found)


def test_hostile_names_stay_text_everywhere() -> None:
    sides = [predictions(lean, EVIL) for lean in (0.6, -0.2)]
    comparison = together(*sides, labels=("<script>alert(3)</script>", "\"'><img src=x onerror=alert(4)>"))
    text = page(comparison)
    found = Page(text)
    assert_loads_nothing(text, found)
    assert len(found.texts["script"]) == 1
    assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)
    assert found.open == []
    assert "<script>alert(3)</script>" in found.texts["h1"][0]


def test_the_overview_holds_scores_and_differences() -> None:
    comparison = together(predictions(0.6), predictions(-0.2))
    [_, first, second] = Page(page(comparison)).rows["overview"]
    assert first[1] == f"{comparison.reference.scores.top1:.1f}"
    assert second[1].startswith(f"{comparison.contenders[1].scores.top1:.1f}+")
    assert second[-2:] == [str(count) for count in comparison.pairs[0].counted()]


def test_flows_and_shifts_by_hand() -> None:
    found = Page(page(told([0, 0, 2, 2], [0, 0, 0, 0], [0, 2, 2, 0])))
    assert found.rows["flows"][1:] == [
        ["many-shot", "one", "100.0", "0.0", "0.0", "0.0"],
        ["two", "50.0", "0.0", "0.0", "50.0"],
        ["few-shot", "one", "0.0", "100.0", "0.0", "0.0"],
        ["two", "50.0", "50.0", "0.0", "0.0"],
    ]
    assert found.rows["shifts"][1:] == [["2", "0", "2", "1", "\N{MINUS SIGN}1"]]  # the last table: what went away


def test_pictures_are_those_that_only_one_recognises() -> None:
    asked: list[int] = []

    def note(index: int) -> torch.Tensor:
        asked.append(index)
        return picture(index)

    comparison = together(predictions(0.6), predictions(-0.2), thumbnails=note)
    text = page(comparison)
    before, after = comparison.pairs[0].right
    assert asked
    assert all(bool(before[index]) != bool(after[index]) for index in asked)
    assert text.count("data:image/png") == len(asked)
    assert "Images that <bdi>two</bdi> recognises; below each stands what <bdi>one</bdi> takes it for." in text


def test_without_pictures_the_classes_are_told_of_all_the_same() -> None:
    text = page(together(predictions(0.6), predictions(-0.2)))
    assert "Largest gains" in text
    assert "<img" not in text


def test_two_that_are_alike_make_a_page_too() -> None:
    text = page(together(predictions(0.3), predictions(0.3)))
    assert "Largest" not in text
    assert "Mistakes that" not in text
    assert Page(text).open == []


def test_the_page_carries_the_warnings() -> None:
    comparison = together(predictions(0.3), predictions(0.1))
    assert "two is a file of predictions" in page(comparison)


@pytest.mark.parametrize("contenders", [2, 4])
def test_8142_classes_make_a_page_of_reasonable_size(contenders: int) -> None:
    counts = long_tailed_counts(1000, 8142, 500, "pareto")
    targets = torch.arange(8142).repeat_interleave(3)
    sides = []
    for seed in range(contenders):
        right = torch.rand(len(targets), generator=torch.Generator().manual_seed(seed)) < 0.6
        sides.append(Predictions(targets, counts, predicted=torch.where(right, targets, targets.roll(7 + seed))))
    text = page(together(*sides, labels=("a", "b", "c", "d")))
    rows = len(re.findall(r'<tr[^>]*><th scope="row" class="(?:many|medium|few)"><bdi>\d+</bdi></th><td>\d', text))
    assert rows == (8142 if contenders == 2 else 9999)
    assert len(text) < 5_000_000
    assert "With at most 3 test images a class, no single class can show more than chance" in text


def test_a_page_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    comparison = together(predictions(0.3), predictions(0.1))
    with pytest.raises(InputError, match=r"there is no folder .*none; make it first"):
        write_comparison(comparison, tmp_path / "none" / "page.html")
    assert write_comparison(comparison, tmp_path / "page.html").read_text("utf-8") == page(comparison)


def test_the_same_runs_give_the_same_page() -> None:
    def again() -> Comparison:
        return together(predictions(0.3), predictions(0.1), thumbnails=picture)

    assert page(again()) == page(again())
