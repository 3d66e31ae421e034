"""`longtail bench` as a user types it."""

import csv
import json

import pytest

from .calling import call

FAST = ("--epochs", "1", "--set", "model.backbone.width=4", "--jobs", "2")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    assert call("bench", "quick", "--only", "ce", "lws", "--seeds", 2, *FAST, "--out", folder) == 0
    return folder


def test_it_writes_every_format_and_prints_the_table(out, capsys):
    asked = ("bench", "quick", "--only", "ce", "lws", "--seeds", 2, *FAST, "--out", out, "--table-only")
    assert call(*asked) == 0
    printed = capsys.readouterr().out
    assert "lws" in printed
    assert "settings of all methods: training.epochs=1, model.backbone.width=4" in printed
    assert "without --only the tables also hold the plan's" in printed
    assert {path.name for path in (out / "quick").iterdir()} == {"table.md", "table.tex", "table.csv", "index.html"}
    rows = list(csv.DictReader((out / "quick" / "table.csv").open()))
    assert [(row["method"], row["n"]) for row in rows] == [("ce", "2"), ("lws", "2")]
    result = json.loads(next(out.glob("cells/*-ce-seed0/result.json")).read_text())
    assert result["command"].startswith("longtail bench quick --only ce lws")
    assert float(rows[0]["top1_mean"]) == pytest.approx(
        sum(json.loads(path.read_text())["test"]["top1"] for path in out.glob("cells/*-ce-seed*/result.json")) / 2
    )


def test_a_run_of_no_row_is_named_and_not_adopted(out, tmp_path, capsys):
    mine, other = (next(out.glob(f"cells/*-{name}-seed0")) for name in ("ce", "lws"))
    asked = ("bench", "quick", "--only", "ce", "--seeds", 1, *FAST, "--out", tmp_path, "--table-only")
    assert call(*asked, "--adopt", mine, other) == 0
    assert (
        f"not adopted, because no training of the plan has their settings and images:\n  {other}"
        in capsys.readouterr().err
    )
    assert [path.name.split("-adopted-")[1] for path in (tmp_path / "cells").iterdir()] == [mine.name]


def test_a_second_plan_finds_the_trainings_of_the_first(out, tmp_path, capsys):
    plan = tmp_path / "mine.yaml"
    plan.write_text("{data: digits-lt, methods: [{name: plain, method: ce}, lws], seeds: 2}")
    assert call("bench", plan, *FAST, "--out", out, "--format", "md") == 0
    assert "4 trainings: 4 finished before, 0 to run" in capsys.readouterr().err
    assert [path.name for path in (out / "mine").iterdir()] == ["table.md"]


def test_without_a_plan_it_lists_those_there_are(capsys):
    assert call("bench") == 0
    assert "balms-decoupled" in capsys.readouterr().out


def test_a_failure_ends_in_code_1_and_the_table_has_the_rest(tmp_path, capsys):
    plan = tmp_path / "mine.yaml"
    plan.write_text(
        "data: digits-lt\nseeds: 1\nmethods:\n  - ce\n"
        "  - {name: explodes, method: ce, training: {optimizer: {lr: 1.0e12}}}\n"
    )
    assert call("bench", plan, *FAST, "--out", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "1 training failed" in printed.err
    assert "explodes on digits-lt" in printed.err
    assert "ce" in printed.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quik",), "did you mean quick"),
        (("quick", "--only", "cee"), "no method in the plan quick 'cee'"),
        (("quick", "--format", "html", "--table-only", "--only", "ce"), "no training of the plan quick is finished"),
        (("quick", "--set", "epochs"), "KEY=VALUE"),
        (("quick", "--seeds", "0"), ">= 1"),
        (("quick", "--jobs", "0"), "`jobs` must be an integer >= 1"),
    ],
)
def test_bad_input_ends_in_code_2(tmp_path, capsys, arguments, message):
    assert call("bench", *arguments, "--out", tmp_path / "none") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_an_unknown_format_is_refused(out, capsys):
    assert call("bench", "quick", "--only", "ce", *FAST, "--out", out, "--table-only", "--format", "pdf") == 2
    assert "no format 'pdf'" in capsys.readouterr().err
