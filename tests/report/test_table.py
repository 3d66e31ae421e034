import io
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from longtail.report.classes import Classes
from longtail.report.table import groups_table, scores_table
from longtail.report.wording import DASH

from .conftest import sample


def cells(table: Table) -> dict[str, list[str]]:
    """Rows of the table, by their first cell."""
    columns = [[getattr(cell, "plain", cell) for cell in column.cells] for column in table.columns]
    return {row[0]: [str(cell).strip() for cell in row[1:]] for row in zip(*columns, strict=True)}


def printed(table: Table, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return stream.getvalue()


def row(**values: float | None) -> Mapping[str, Any]:
    return {
        "top1": 50.0,
        "balanced": 50.0,
        "many": 50.0,
        "medium": 50.0,
        "few": 50.0,
        "mcc": 50.0,
        "ece": 5.0,
        **values,
    }


def test_the_numbers_are_those_of_the_scores() -> None:
    scores = sample().scores()
    names = ("top1", "balanced", "many", "medium", "few", "mcc")
    expected = [f"{getattr(scores, name):.1f}" for name in names] + [f"{scores.ece:.2f}"]
    assert cells(scores_table({"ce": scores})) == {"ce": expected}
    assert cells(scores_table({"ce": scores.to_dict()})) == {"ce": expected}


def test_one_row_has_no_best() -> None:
    assert "*" not in printed(scores_table({"ce": row()}))


def test_the_best_of_each_column_is_marked_and_the_lowest_ece() -> None:
    found = cells(scores_table({"a": row(top1=60.0, ece=9.0), "b": row(few=70.0), "c": row(few=70.04)}))
    assert found["a"][0] == "60.0*"
    assert found["a"][6] == "9.00"
    assert found["b"][6] == found["c"][6] == "5.00*"
    # they read the same, so one must not look better
    assert found["b"][4] == found["c"][4] == "70.0*"


def test_a_column_that_reads_the_same_in_all_rows_has_no_best() -> None:
    found = cells(scores_table({"a": row(few=70.0), "b": row(few=70.04, mcc=60.0), "c": row(few=None)}))
    assert [values[4] for values in found.values()] == ["70.0", "70.0", DASH]
    assert [values[5] for values in found.values()] == ["50.0", "60.0*", "50.0"]
    assert "best of its column" not in printed(scores_table({"a": row(), "b": row()}))


def test_what_was_not_measured_is_a_dash_and_cannot_be_best() -> None:
    found = cells(scores_table({"a": row(few=None), "b": row(few=10.0), "c": {"top1": 1.0}}))
    assert [values[4] for values in found.values()] == [DASH, "10.0", DASH]
    assert found["c"][1:] == [DASH] * 6


def test_names_are_text_and_no_markup() -> None:
    assert "[red]ce[/red]" in printed(scores_table({"[red]ce[/red]": row()}))


def test_it_fits_a_terminal_of_80_columns() -> None:
    lines = printed(scores_table({"bsce": row(), "balms, resnet32": row(mcc=-51.25)}), width=80).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_groups_add_up_to_the_data() -> None:
    counts = torch.tensor([500, 300, 50, 9, 1])
    found = cells(groups_table(Classes.grouped(tuple("abcde"), counts)))
    assert found["many"][1:] == ["2", "800", "93.0"]
    assert found["medium"][1:] == ["1", "50", "5.8"]
    assert found["few"] == ["fewer than 20 training images", "2", "10", "1.2"]
