"""The number of trainings at once is found by measuring a simulated machine."""

import json
from pathlib import Path

import pytest

from longtail.bench.adapt import Adaptive, Meter
from longtail.bench.budget import Budget, budget, pinned_cores
from longtail.bench.cells import Cell, Job, cells_of, epochs_of, jobs_for
from longtail.bench.plan import parse_plan


def settle(limits: Budget, speed) -> Adaptive:
    """Run a bench whose trainings per second depend on their number, until nothing changes any more."""
    adaptive, done, epochs = Adaptive(limits), 0.0, 0
    for second in range(0, 3000, 5):
        adaptive.observe(second, done, epochs, adaptive.now)
        done += 5 * speed(adaptive.now)
        epochs += 5 * adaptive.now
    return adaptive


@pytest.mark.parametrize(
    ("speed", "found"),
    [
        (lambda jobs: min(jobs, 9) ** 0.5, 9),
        (lambda jobs: jobs**0.5, 16),  # the more the better
        (lambda jobs: 1.0, 4),  # more bring nothing
        (lambda jobs: 1 / jobs, 1),  # a device that slows down when it is shared
    ],
)
def test_the_fastest_number_is_found(speed, found):
    adaptive = settle(Budget(4, 1, 64.0, 16, 1, 16), speed)
    assert adaptive.now == found
    assert set(adaptive.speeds) <= set(range(1, 17))


def test_a_given_number_is_kept():
    adaptive = settle(Budget(4, 1, 64.0, 16, 4, 4), lambda jobs: 1 / jobs)
    assert (adaptive.now, adaptive.speeds) == (4, {})


def test_a_window_counts_only_while_all_are_running():
    adaptive = Adaptive(Budget(2, 1, 64.0, 16, 1, 16))
    for second in range(0, 600, 5):
        assert not adaptive.observe(second, second / 60, second, running=1)
    assert not adaptive.speeds


def test_without_memory_fewer_run_and_no_more_are_tried():
    adaptive = Adaptive(Budget(4, 1, 64.0, 16, 1, 16))
    adaptive.out_of_memory()
    assert adaptive.now == 3
    assert not any(adaptive.observe(second, second, second, 3) for second in range(0, 600, 5))


def test_shares_of_running_trainings_count_from_where_this_bench_started(tmp_path):
    plan = parse_plan(
        "mine", {"data": "digits-lt", "methods": ["ce"], "seeds": 2, "changes": {"training": {"epochs": 10}}}
    )
    jobs = jobs_for([cell for _, _, cell in cells_of(plan)])
    folders = {identity: tmp_path / identity[:8] for identity in jobs}
    first, second = jobs
    log(folders[first], 4)
    meter = Meter(jobs, folders)
    for identity in jobs:
        meter.begin(identity)
    log(folders[first], 9)
    log(folders[second], 2)
    assert meter.read() == (0.5 + 0.2, 7)
    meter.end(second)
    assert meter.read() == (0.5 + 1.0, 7)


def log(folder: Path, epochs: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps({"stage": 0, "epoch": each}) + "\n" for each in range(epochs)))


def test_the_length_of_a_training_counts_the_stages_that_it_trains():
    plan = parse_plan("mine", {"data": "digits-lt", "methods": ["ce", "crt"], "seeds": 1})
    jobs: dict[str, Job] = jobs_for([cell for _, _, cell in cells_of(plan)])
    whole: Cell = next(job.cell for job in jobs.values() if job.cell.config.method == "crt")
    start = next(job.cell for job in jobs.values() if job.cell.config.method == "ce")
    assert start.images == 376
    assert epochs_of(start) == start.config.stages[0].training_settings().epochs
    assert epochs_of(whole) == epochs_of(start) + epochs_of(whole, start)


def test_processes_are_pinned_if_they_use_every_core(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {3, 5, 7, 8}, raising=False)
    assert [pinned_cores(Budget(2, 2, 8.0, 4, 2, 2), place) for place in range(3)] == [[3, 5], [7, 8], []]
    assert pinned_cores(Budget(1, 1, 8.0, 4, 1, 1), 0) == []  # the other cores stay free for another bench
    assert pinned_cores(Budget(2, 1, 8.0, 2, 2, 2), 0) == []  # a quota, not the affinity, limits the cores


def test_the_first_number_depends_on_device_cores_and_memory(monkeypatch):
    monkeypatch.setattr("longtail.bench.budget.available_cores", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    found = budget(memory_gb=64.0)
    assert (found.fewest, found.jobs, found.most, found.threads) == (1, 4, 16, 1)
    assert budget(memory_gb=7.0).most == 3
    alone = budget(memory_gb=64.0, device="cpu")
    assert (alone.fewest, alone.jobs, alone.most, alone.threads) == (8, 16, 16, 1)
    assert budget(memory_gb=64.0, device="cpu", threads=4).most == 4
    assert str(budget(2, 8.0)) == "2 trainings at once, 8 threads each on 16 cores"
    assert str(alone) == "16 trainings at once at first (8 to 16), 1 thread each on 16 cores"
