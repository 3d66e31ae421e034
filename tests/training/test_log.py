"""Log of a run: rows on disk, rows kept on resume, additional loggers."""

import json
import sys
import types

import pytest

from longtail.errors import InputError
from longtail.training.log import RunLog, check_loggers, read_rows


def row(stage: int, epoch: int) -> dict:
    return {"stage": stage, "epoch": epoch, "loss": 1.0, "val": {"top1": 50.0}}


def test_rows_are_lines_of_json(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    log.write(row(0, 0))
    log.write(row(0, 1))
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [row(0, 0), row(0, 1)]


def test_a_resumed_run_keeps_the_rows_before_its_position(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    for stage, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        log.write(row(stage, epoch))
    again = RunLog(tmp_path / "log.jsonl", keep=(1, 1))
    assert again.rows == [row(0, 0), row(0, 1), row(1, 0)]
    assert read_rows(tmp_path / "log.jsonl") == again.rows


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    RunLog(tmp_path / "log.jsonl").write(row(0, 0))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"stage": 0, "ep')
    assert read_rows(tmp_path / "log.jsonl") == [row(0, 0)]


def test_wandb_gets_flat_numbers(tmp_path, monkeypatch):
    sent = []
    run = types.SimpleNamespace(log=lambda numbers, step: sent.append((step, numbers)))
    fake = types.SimpleNamespace(init=lambda **settings: sent.append(settings["config"]) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    RunLog(tmp_path / "log.jsonl", loggers=["wandb"], config={"seed": 3}).write(row(0, 0))
    assert sent == [{"seed": 3}, (1, {"loss": 1.0, "val/top1": 50.0})]


def test_a_logger_that_is_not_installed_is_refused_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install 'longtail\[wandb\]'"):
        check_loggers(["wandb"])


def test_a_sink_that_fails_is_dropped_and_the_training_continues(tmp_path, monkeypatch, caplog):
    def fail(numbers, step):
        raise ConnectionError("no network")

    fake = types.SimpleNamespace(init=lambda **settings: types.SimpleNamespace(log=fail))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log = RunLog(tmp_path / "log.jsonl", loggers=["wandb"])
    log.write(row(0, 0))
    log.write(row(0, 1))
    assert [record.getMessage() for record in caplog.records] == ["WandB is no longer written: no network"]
    assert len(read_rows(tmp_path / "log.jsonl")) == 2
