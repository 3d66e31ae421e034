import csv
from pathlib import Path

import pytest

from longtail.errors import InputError
from longtail.report.comparison.table import class_table, write_table

from ..report.conftest import Page
from .made_up import NAMES, predictions, together, told


def rows_of(markup: str) -> list[list[str]]:
    return Page(markup).rows["compared"]


def test_a_row_by_hand() -> None:
    comparison = told([0, 0, 0, 0, 1, 1], [1, 1, 1, 2, 0, 1], [2, 2, 0, 2, 0, 1])
    [_, first, second, third] = rows_of(class_table(comparison.pairs[0], comparison.test_counts, "key", 99))
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
    [head, *rows] = rows_of(class_table(comparison.pairs[0], comparison.test_counts, "key", 99))
    assert [row[0] for row in rows] == list(NAMES)
    assert head[3:5] == ["one (%)", "two (%)"]
    assert all(len(row) == len(head) for row in rows)


def test_of_too_many_classes_those_that_changed_most_stay() -> None:
    comparison = together(predictions(0.6), predictions(-0.2))
    pair = comparison.pairs[0]
    markup = class_table(pair, comparison.test_counts, "key", 2)
    kept = sorted(range(6), key=lambda label: -abs(pair.gains[label]))[:2]
    assert {row[0] for row in rows_of(markup)[1:]} == {NAMES[label] for label in kept}
    assert "The 2 classes of 6 that changed most" in markup


def test_the_file_holds_every_class_of_every_pair(tmp_path: Path) -> None:
    comparison = together(predictions(0.6), predictions(0.2), predictions(-0.2))
    target = write_table(comparison, tmp_path / "classes.csv")
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["class"]) for row in rows] == [(run, name) for run in ("two", "three") for name in NAMES]
    for row, gain in zip(rows, [*comparison.pairs[0].gains, *comparison.pairs[1].gains], strict=True):
        assert float(row["accuracy"]) - float(row["accuracy_reference"]) == pytest.approx(float(row["difference"]))
        assert float(row["difference"]) == gain
    assert rows[0]["group"] == "many"


def test_a_file_that_can_not_be_written_is_refused(tmp_path: Path) -> None:
    comparison = together(predictions(0.6), predictions(0.2))
    with pytest.raises(InputError, match=r"cannot write the table to .*classes\.csv: No such file or directory"):
        write_table(comparison, tmp_path / "none" / "classes.csv")
