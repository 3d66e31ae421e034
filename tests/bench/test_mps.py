"""Start and stop of a CUDA MPS server, with a stand-in for the program that controls it."""

import logging
import os
from pathlib import Path

import pytest

from longtail.bench import mps
from longtail.bench.mps import mps_server

STAND_IN = """#!/bin/sh
if [ "$1" = "-d" ]; then echo "start $CUDA_MPS_PIPE_DIRECTORY" >> {log}; {start}; exit $?; fi
read order; echo "$order $CUDA_MPS_PIPE_DIRECTORY" >> {log}
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Return a function that installs the stand-in; it returns the file with its calls."""
    monkeypatch.setattr(mps, "DEFAULT_PIPE", tmp_path / "nowhere")
    monkeypatch.delenv(mps.PIPE, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def install(start: str = "true") -> Path:
        log, program = tmp_path / "calls", tmp_path / "bin" / mps.CONTROL
        program.parent.mkdir()
        program.write_text(STAND_IN.format(log=log, start=start))
        program.chmod(0o755)
        log.touch()
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return log

    return install


def works(environment) -> str:
    return "" if Path(environment[mps.PIPE]).is_dir() and Path(environment[mps.LOG]).is_dir() else "no folder"


def test_the_server_runs_while_the_context_is_open(calls, tmp_path):
    log = calls()
    with mps_server(tmp_path, works) as variables:
        assert log.read_text() == f"start {variables[mps.PIPE]}\n"
        assert (tmp_path / mps.NOTE).exists()
    assert log.read_text().splitlines()[1:] == [f"quit {variables[mps.PIPE]}"]
    assert not Path(variables[mps.PIPE]).exists()
    assert not (tmp_path / mps.NOTE).exists()


def test_it_is_stopped_after_an_error(calls, tmp_path):
    log = calls()
    with pytest.raises(KeyboardInterrupt), mps_server(tmp_path, works):
        raise KeyboardInterrupt
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["start", "quit"]


def test_a_server_that_runs_already_is_left_alone(calls, tmp_path, monkeypatch, caplog):
    log = calls()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "control").touch()
    caplog.set_level(logging.INFO, "longtail")
    with monkeypatch.context() as patch:
        patch.setattr(mps, "DEFAULT_PIPE", tmp_path / "other")
        with mps_server(tmp_path, works) as variables:
            assert variables == {}
    monkeypatch.setenv(mps.PIPE, "/elsewhere")
    with mps_server(tmp_path, works) as variables:
        assert variables == {}
    assert log.read_text() == ""
    assert "runs already" in caplog.text


@pytest.mark.parametrize(
    ("start", "probe", "reason"),
    [
        ("echo not permitted; false", works, "not permitted"),
        ("true", lambda environment: "no such device", "no such device"),
        ("exit 3", works, "exit code 3"),
    ],
)
def test_without_a_server_the_trainings_share_the_gpu(calls, tmp_path, caplog, start, probe, reason):
    log = calls(start)
    caplog.set_level(logging.INFO, "longtail")
    with mps_server(tmp_path, probe) as variables:
        assert variables == {}
        assert [line.split()[0] for line in log.read_text().splitlines()] == ["start", "quit"]
    assert f"no CUDA MPS server ({reason})" in caplog.text
    assert len(log.read_text().splitlines()) == 2


def test_without_the_program_nothing_is_started(calls, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    caplog.set_level(logging.INFO, "longtail")
    with mps_server(tmp_path, works) as variables:
        assert variables == {}
    assert f"{mps.CONTROL} is not installed" in caplog.text


def test_the_server_of_a_killed_bench_is_stopped_by_the_next_one(calls, tmp_path):
    log = calls()
    left = tmp_path / f"{mps.PREFIX}abc"
    (left / "pipe").mkdir(parents=True)
    (tmp_path / mps.NOTE).write_text(str(left))
    with mps_server(tmp_path, works):
        pass
    assert log.read_text().splitlines()[0] == f"quit {left / 'pipe'}"
    assert not left.exists()


def test_the_probe_computes_in_a_process_of_its_own():
    reason = mps.can_compute({**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    assert reason
    assert "\n" not in reason
