import io
import re
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from longtail.report.classes import Classes
from longtail.report.tables import Cell, Column, Row, Table, groups_table, latex_escape, scores_table
from longtail.report.wording import DASH

from .made_up import Page, sample


def cells(table: Table) -> dict[str, list[str]]:
    """Rows of the table, by their first cell."""
    return {row[0].text: [cell.text + "*" * cell.star for cell in row[1:]] for _, row in table.lines}


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


TABLE = Table(
    ["run", Column("all", "right", "meaning <b>"), Column("class", names=True)],
    [
        ["a|b_c", Cell("70.0", bold=True, star=True, share=0.7, kind="wrong"), "<i>"],
        Row(["x\ny", Cell("5", key="5.25"), DASH], "gain"),
    ],
    title="caption & more",
    notes=("* note [red]",),
)


def test_markdown_escapes_and_marks() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert [cell.strip() for cell in lines[2].replace("\\|", "!").split("|")[1:-1]] == ["a!b_c", "**70.0***", "<i>"]
    assert lines[3].startswith("| x y ")
    assert re.fullmatch(r"\|:-+\|-+:\|:-+\|", lines[1])


def test_latex_escapes_and_marks() -> None:
    lines = TABLE.to_latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrl}"
    assert lines[4] == r"  a|b\_c & \textbf{70.0$^*$} & \textless{}i\textgreater{} \\"
    assert lines[5] == r"  x y & 5 & -- \\"
    assert latex_escape("\\ 5 % ± †") == r"\textbackslash{} 5 \% $\pm$ $^\dagger$"


def test_csv_is_the_plain_text() -> None:
    assert TABLE.to_csv() == f'run,all,class\na|b_c,70.0,<i>\n"x\ny",5,{DASH}\n'


def test_html_escapes_and_marks() -> None:
    page = Page(TABLE.to_html("kind", data_search="0"))
    assert page.open == []
    assert page.elements[0] == ("table", {"class": "kind r2", "data-search": "0"})
    assert page.texts["caption"] == ["caption & more"]
    assert ("th", {"scope": "col", "class": "number", "title": "meaning <b>"}) in page.elements
    assert ("td", {"class": "wrong", "style": "--share:0.700"}) in page.elements
    assert ("td", {"data-value": "5.25"}) in page.elements
    assert ("tr", {"class": "gain"}) in page.elements
    assert page.texts["strong"] == ["70.0*"]
    assert page.texts["bdi"] == ["<i>"]


def test_the_terminal_shows_title_marks_and_notes_as_text() -> None:
    text = printed(TABLE)
    assert "caption & more" in text
    assert "70.0*" in text
    assert "* note [red]" in text


def test_top5_is_shown_where_there_are_many_classes() -> None:
    for classes, shown in ((19, False), (20, True)):
        scores = {"top1": 50, "top5": 80, "per_class": [50.0] * classes}
        assert ("top 5" in printed(scores_table({"ce": scores}))) == shown
