"""The runner with real processes: killed, stopped, and with a failing cell. The predictions stay the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock

from longtail.bench.budget import budget
from longtail.bench.cells import Cell, cells_of, jobs_for
from longtail.bench.plan import parse_plan
from longtail.bench.run import rows_of, tables
from longtail.bench.runner import Runner
from longtail.config import recipes
from longtail.errors import InputError
from longtail.run.fit import fit

METHODS = ["ce", "crt", "tau-norm", "balanced-softmax"]
SETTINGS = {"training": {"epochs": 20}, "set": {"model.backbone.width": 4}}
PLAN = {"data": "digits-lt", "methods": METHODS, "seeds": 1, "changes": SETTINGS}
PATIENCE = 180  # seconds; importing torch is slow on a busy machine

# `longtail bench` without its parser
SCRIPT = """
import sys, json
from pathlib import Path
from longtail.bench.cells import cells_of, jobs_for
from longtail.bench.plan import parse_plan
from longtail.bench.budget import budget
from longtail.bench.runner import Runner

plan = parse_plan("mine", json.loads(sys.argv[1]))
cells = [cell for _, _, cell in cells_of(plan)]
runner = Runner(jobs_for(cells), Path(sys.argv[2]), budget(int(sys.argv[3]), 8.0))
runner.run(lambda identity: identity and print(runner.progress.states[identity], flush=True))
"""


def start(out: Path, jobs: int) -> subprocess.Popen:
    source = str(Path(recipes.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(PLAN), str(out), str(jobs)],
        stdout=subprocess.PIPE,
        stderr=(out.parent / "errors.txt").open("a"),
        text=True,
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def epochs_logged(out: Path) -> int:
    return sum(len(path.read_text().splitlines()) for path in out.glob("cells/*/log.jsonl"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory) -> Path:
    """A bench that was killed during its first cells, stopped by SIGTERM during later ones, and then finished."""
    out = tmp_path_factory.mktemp("bench") / "out"
    for end, epochs, jobs in [(signal.SIGKILL, 5, 1), (signal.SIGTERM, 30, 1), (None, 0, 2)]:
        process = start(out, jobs)
        if end is not None:
            until(lambda: epochs_logged(out) >= epochs or process.poll() is not None, "no epoch was logged")  # noqa: B023
            workers = psutil.Process(process.pid).children()
            assert workers, (out.parent / "errors.txt").read_text()
            process.send_signal(end)
        process.communicate(timeout=PATIENCE)
        if end is not None:
            assert process.returncode != 0
            until(lambda: not any(map(alive, workers)), "a worker outlived its bench")  # noqa: B023
            finished = list(out.glob("cells/*/result.json"))
            assert len(finished) < len(METHODS), "this machine is too slow to interrupt anything in time"
    assert process.returncode == 0, (out.parent / "errors.txt").read_text()
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """The same cells, each trained in this process without interruption, from its first stage on."""
    folders = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for cell in wanted():
        folders[cell.config.method] = fit(cell.config, tmp_path_factory.mktemp("run"), report=False).folder
    torch.set_num_threads(threads)
    return folders


def wanted(**changes) -> list[Cell]:
    return [cell for _, _, cell in cells_of(parse_plan("mine", {**PLAN, **changes}))]


@pytest.mark.slow
def test_killed_and_stopped_it_comes_to_the_same_bits_as_single_runs(interrupted, whole):
    for cell in wanted():
        folder = cell.folder(interrupted)
        ours, single = (np.load(each / "predictions.npz")["logits"] for each in (folder, whole[cell.config.method]))
        assert np.array_equal(ours, single), cell.about


@pytest.mark.slow
def test_the_first_stage_was_trained_once(interrupted):
    crt = next(cell for cell in wanted() if cell.config.method == "crt").folder(interrupted)
    stages = {json.loads(line)["stage"] for line in (crt / "log.jsonl").read_text().splitlines()}
    assert stages == {1}
    ce = next(cell for cell in wanted() if cell.config.method == "ce").folder(interrupted)
    seconds = [json.loads((folder / "result.json").read_text())["cost"]["seconds"] for folder in (crt, ce)]
    assert seconds[0] > seconds[1]  # the cost includes the first stage


@pytest.mark.slow
def test_nothing_is_trained_twice(interrupted):
    before = {path: path.stat().st_mtime_ns for path in interrupted.glob("cells/*/result.json")}
    runner = Runner(jobs_for(wanted()), interrupted, budget(1, 8.0))
    assert runner.progress.count("done") == len(METHODS)
    runner.run(lambda identity: pytest.fail("no job is left"))
    assert {path: path.stat().st_mtime_ns for path in interrupted.glob("cells/*/result.json")} == before


@pytest.mark.slow
def test_a_hidden_beginning_is_trained_only_while_something_needs_it(interrupted):
    cells = wanted(methods=["crt", "tau-norm"])
    states = Runner(jobs_for(cells), interrupted, budget(1, 8.0)).progress.states
    assert set(states.values()) == {"done"}


@pytest.mark.slow
def test_older_code_is_taken_only_if_asked_for_and_then_marked(interrupted):
    plan = parse_plan("mine", PLAN)
    rows = rows_of(plan)
    changed = {
        key: (entry, [Cell(cell.config, cell.split, "changed since") for cell in cells])
        for key, (entry, cells) in rows.items()
    }
    with pytest.raises(InputError, match="no training of the plan mine is finished"):
        tables(plan, changed, interrupted)
    (table,) = tables(plan, changed, interrupted, keep_old=True)
    assert all(line.older for line in table.lines)
    assert not any(line.older for line in tables(plan, rows, interrupted)[0].lines)


def test_a_failed_cell_is_reported_and_the_rest_go_on(tmp_path, capsys):
    too_fast = {"training": {"optimizer": {"lr": 1.0e12}}}
    broken = {"name": "explodes", "method": "crt", **too_fast}
    after = {"name": "after it", "method": "tau-norm", **too_fast}
    quick = {"training": {"epochs": 1}, "set": {"model.backbone.width": 4}}
    cells = wanted(methods=[broken, after, "ce"], changes=quick)
    runner = Runner(jobs_for(cells), tmp_path, budget(1, 8.0))
    runner.run(lambda identity: None)
    states = {runner.progress.jobs[key].cell.config.method: state for key, state in runner.progress.states.items()}
    assert states == {"stage-1-of-explodes": "failed", "explodes": "failed", "after it": "failed", "ce": "done"}
    why = {runner.progress.jobs[key].cell.config.method: text for key, text in runner.progress.failures.items()}
    assert "finite" in why["stage-1-of-explodes"]
    output = Path(why["stage-1-of-explodes"].rpartition("(see ")[2].rstrip(")"))
    assert "finite" in output.read_text()
    assert why["after it"].startswith("its first stage failed: stage-1-of-explodes on digits-lt")


def test_a_folder_serves_one_bench_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("longtail.bench.runner.PATIENCE", 0.0)
    for name in (".lock", ".worker-3.lock"):  # another bench, and the worker of a killed one
        with FileLock(tmp_path / name), pytest.raises(InputError, match="another bench uses"):
            Runner({}, tmp_path, budget(1, 8.0)).run(lambda identity: None)
    Runner({}, tmp_path, budget(1, 8.0)).run(lambda identity: None)
    assert not list(tmp_path.glob(".worker-*"))
    with pytest.raises(InputError, match="cannot write to"):
        Runner({}, tmp_path / ".lock" / "below", budget(1, 8.0)).run(lambda identity: None)


def test_the_budget_is_shared_among_the_processes(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(psutil.Process().cpu_affinity())
    assert budget(1, 8.0).threads == cores
    assert budget(64, 8.0).threads == 1
    assert budget(None, 0.7).jobs == 1  # no memory for a second
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert budget(1, 8.0).threads == 1
    with pytest.raises(InputError, match="`jobs` must be an integer >= 1, got 0"):
        budget(jobs=0)
    with pytest.raises(InputError, match="`memory_gb` must be > 0"):
        budget(memory_gb=0.0)


def test_a_cell_that_is_known_to_need_more_than_is_left_waits(tmp_path):
    cells = wanted(methods=["ce", "balanced-softmax"], changes={"training": {"epochs": 1}})
    runner = Runner(jobs_for(cells), tmp_path, budget(2, 1.0))

    class Busy:
        job = cells[0].identity

        def peak_memory_gb(self) -> float:
            return 0.7

    assert runner._fits(cells[1].identity)
    runner._workers.append(Busy())
    assert not runner._fits(cells[1].identity)


class Together(Runner):
    """Gives orders only when both workers are ready, so that two trainings run at once."""

    most = 0

    def _give_orders(self) -> None:
        while self._started < 2:
            self._start_worker()
        if all(worker.ready for worker in self._workers):
            super()._give_orders()
        self.most = max(self.most, self.progress.count("running"))


def test_next_to_another_training_a_cell_gives_the_bits_that_it_gives_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    short = {"training": {"epochs": 2}, "set": {"model.backbone.width": 4}}
    cells = wanted(methods=["ce", "balanced-softmax"], changes=short)
    runner = Together(jobs_for(cells), tmp_path / "bench", budget(2, 8.0, device="cpu"))
    runner.run(lambda identity: None)
    assert runner.most == 2
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = fit(cells[0].config, tmp_path / "alone", report=False).folder
    torch.set_num_threads(threads)
    beside = cells[0].folder(tmp_path / "bench")
    ours, single = (np.load(folder / "predictions.npz")["logits"] for folder in (beside, alone))
    assert np.array_equal(ours, single)


def test_a_cell_without_memory_on_the_device_is_tried_again_with_fewer_at_once(tmp_path):
    cells = wanted(methods=["ce", "balanced-softmax"])
    runner = Runner(jobs_for(cells), tmp_path, budget(2, 8.0))
    first, second = (cell.identity for cell in cells)

    class Busy:
        def __init__(self, job: str) -> None:
            self.job = job

        def peak_memory_gb(self) -> float:
            return 0.7

        def retire(self) -> None:
            self.retired = True

    busy = [Busy(first), Busy(second)]
    for worker in busy:
        runner.progress.states[worker.job] = "running"
        runner.progress.began[worker.job] = 0.0
        runner._meter.begin(worker.job)
    message = {"failed": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 MiB", "broken": True}
    runner._messages.put((busy[0], message))
    assert runner._receive() is None
    assert runner.progress.states[first] == "waiting"
    assert runner.adaptive.now == 1
    assert busy[0].retired  # the memory of its process is freed
    runner._messages.put((busy[1], message))  # alone, it has failed for good
    assert runner._receive() == second
    assert runner.progress.states[second] == "failed"
