"""Log of a run: rows on disk, rows kept on resume, sinks."""

import json

import pytest

from longtail.training.log import RunLog, read_rows


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


class Recorder:
    """Sink that records its calls, and fails in one of them on request."""

    def __init__(self, failing: str = "") -> None:
        self.calls, self.failing = [], failing

    def start(self, config, folder):
        self.record("start", config, folder)

    def log(self, row, step):
        self.record("log", row, step)

    def finish(self, result, report):
        self.record("finish", result, report)

    def record(self, *call):
        self.calls.append(call)
        if call[0] == self.failing:
            raise ConnectionError("no network")


def test_a_sink_gets_configuration_flat_rows_and_result(tmp_path):
    sink = Recorder()
    with RunLog(tmp_path / "log.jsonl", loggers=[sink], config={"seed": 3}) as log:
        log.write(row(0, 0))
        log.finish({"seed": 3}, tmp_path / "report.html")
    assert sink.calls == [
        ("start", {"seed": 3}, tmp_path),
        ("log", {"loss": 1.0, "val/top1": 50.0}, 1),
        ("finish", {"seed": 3}, tmp_path / "report.html"),
    ]


def test_a_resumed_run_continues_the_steps(tmp_path):
    RunLog(tmp_path / "log.jsonl").write(row(0, 0))
    sink = Recorder()
    RunLog(tmp_path / "log.jsonl", keep=(0, 1), loggers=[sink]).write(row(0, 1))
    assert sink.calls[-1][2] == 2


def test_an_interrupted_run_closes_its_sinks_without_a_result(tmp_path):
    sink = Recorder()
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path / "log.jsonl", loggers=[sink]):
        raise KeyboardInterrupt
    assert sink.calls[-1] == ("finish", None, None)


@pytest.mark.parametrize("failing", ["start", "log", "finish"])
def test_a_sink_that_fails_is_dropped_and_the_training_continues(tmp_path, caplog, failing):
    sink, healthy = Recorder(failing), Recorder()
    with RunLog(tmp_path / "log.jsonl", loggers=[sink, healthy]) as log:
        log.write(row(0, 0))
        log.write(row(0, 1))
        log.finish({}, None)
    assert [record.getMessage() for record in caplog.records] == ["Recorder is no longer written: no network"]
    assert sink.calls[-1][0] == failing
    assert [call[0] for call in healthy.calls] == ["start", "log", "log", "finish"]
    assert len(read_rows(tmp_path / "log.jsonl")) == 2
