"""The page as a browser would read it."""

import html
import re
from pathlib import Path

import pytest
import torch

from longtail.data import long_tailed_counts
from longtail.errors import InputError
from longtail.evaluation import Predictions
from longtail.report.comparison import Comparison
from longtail.report.comparison_page import class_table, page, verdict, write_comparison
from longtail.report.tables import Table

from .made_up import EVIL, NAMES, Page, assert_loads_nothing, compared, picture, predictions, together


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
    assert second[1].startswith(f"{comparison.sides[1].scores.top1:.1f}+")
    assert second[-2:] == [str(count) for count in comparison.pairs[0].counted()]


def test_flows_and_shifts_by_hand() -> None:
    found = Page(page(compared([0, 0, 2, 2], [0, 0, 0, 0], [0, 2, 2, 0])))
    assert found.rows["flows"][1:] == [
        ["many-shot", "one", "100.0", "0.0", "0.0", "0.0"],
        ["many-shot", "two", "50.0", "0.0", "0.0", "50.0"],
        ["few-shot", "one", "0.0", "100.0", "0.0", "0.0"],
        ["few-shot", "two", "50.0", "50.0", "0.0", "0.0"],
    ]
    assert found.rows["shifts"][1:] == [["2", "0", "2", "1", "\N{MINUS SIGN}1"]]  # the last table: less frequent


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
    assert (
        "Images that only <bdi>two</bdi> classifies correctly; the prediction of <bdi>one</bdi> is below each image."
        in text
    )


def test_without_pictures_the_classes_are_told_of_all_the_same() -> None:
    text = page(together(predictions(0.6), predictions(-0.2)))
    assert "Largest gains" in text
    assert "<img" not in text


def test_two_that_are_alike_make_a_page_too() -> None:
    text = page(together(predictions(0.3), predictions(0.3)))
    assert "Largest" not in text
    assert "Errors that" not in text
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
    assert "With at most 3 test images per class, no change of a single class can be" in text


def test_a_page_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    comparison = together(predictions(0.3), predictions(0.1))
    with pytest.raises(InputError, match=r"there is no folder .*none; create it"):
        write_comparison(comparison, tmp_path / "none" / "page.html")
    assert write_comparison(comparison, tmp_path / "page.html").read_text("utf-8") == page(comparison)


def test_the_same_runs_give_the_same_page() -> None:
    def again() -> Comparison:
        return together(predictions(0.3), predictions(0.1), thumbnails=picture)

    assert page(again()) == page(again())


def rows_of(table: Table) -> list[list[str]]:
    return [[column.heading for column in table.heads], *([cell.text for cell in row] for _, row in table.lines)]


def test_a_row_by_hand() -> None:
    comparison = compared([0, 0, 0, 0, 1, 1], [1, 1, 1, 2, 0, 1], [2, 2, 0, 2, 0, 1])
    [_, first, second, third] = rows_of(class_table(comparison.pairs[0], comparison.test_counts, 99))
    assert first == [
        "0",
        "300",
        "4",
        "0.0",
        "25.0",
        "+25.0",
        "1.0000",
        "chance",
        "1 3",
        "2 3",
        "1 \N{MINUS SIGN}3, 2 +2",
    ]
    assert second[5:9] == ["0.0", "1.0000", "\N{EN DASH}", "0 1"]
    assert third[2:] == ["0"] + ["\N{EN DASH}"] * 8


def test_the_fullest_class_comes_first_and_headings_name_the_runs() -> None:
    comparison = together(predictions(0.6), predictions(-0.2))
    [head, *rows] = rows_of(class_table(comparison.pairs[0], comparison.test_counts, 99))
    assert [row[0] for row in rows] == list(NAMES)
    assert head[3:5] == ["one (%)", "two (%)"]
    assert all(len(row) == len(head) for row in rows)


def test_of_too_many_classes_those_that_changed_most_stay() -> None:
    comparison = together(predictions(0.6), predictions(-0.2))
    pair = comparison.pairs[0]
    table = class_table(pair, comparison.test_counts, 2)
    kept = sorted(range(6), key=lambda label: -abs(pair.gains[label]))[:2]
    assert {row[0] for row in rows_of(table)[1:]} == {NAMES[label] for label in kept}
    assert table.title.startswith("The 2 of 6 classes that changed most")


def plain(text: str) -> str:
    return (
        html.unescape(re.sub("<[^>]*>", "", text))
        .replace("\N{NARROW NO-BREAK SPACE}", " ")
        .replace("\N{MINUS SIGN}", "-")
    )


def test_the_verdict_of_a_hand_made_case() -> None:
    targets = [0] * 20 + [2] * 20
    before = [0] * 40
    after = [0] * 18 + [2] * 2 + [2] * 20
    text = plain(verdict(compared(targets, before, after).pairs[0]))
    assert text.startswith(
        "The accuracy of two is 95.0 % on 40 test images, 45.0 points higher than that of one (95 % interval +"
    )
    assert "Of 2 classes, 1 got better and 1 worse; 1 of the gains and 0 of the losses are clearly more" in text
    assert "Frequent classes lost 10.0 points (perhaps by chance), rare classes gained 100.0 points." in text
    assert "Of the images of rare classes, 100 % were predicted as frequent classes, now 0 %." in text
    assert "The largest gain is 2 (0 to 100 %), the largest loss is 0 (100 to 90 %)." in text


def test_what_may_be_chance_is_called_so() -> None:
    targets = [0] * 20 + [2] * 20
    one, two = list(targets), list(targets)
    one[:2], two[3] = [2, 2], 2
    text = plain(verdict(compared(targets, one, two).pairs[0]))
    assert "2.5 points higher than that of one, which may be chance (95 % interval -" in text


def test_of_two_that_are_alike_nothing_is_claimed() -> None:
    text = plain(verdict(together(predictions(0.3), predictions(0.3)).pairs[0]))
    assert "the same as that of one (95 % interval 0.0 to 0.0)" in text
    assert "0 got better and 0 worse" in text
    assert "rare classes did not change" in text
    assert "largest" not in text


def test_a_single_group_is_not_told_apart() -> None:
    text = plain(verdict(compared([0, 1, 2], [0, 0, 0], [0, 1, 2], counts=(5, 4, 3)).pairs[0]))
    assert "rare classes" not in text
