"""Trainings per minute and memory per training against the number of trainings at once.

    python benchmarks/bench_scale.py [--jobs 1 2] [--trainings 8] [--data digits-lt] [--output bench_scale.jsonl]

For each number, `longtail bench` trains the same cells in a new folder. The time counts from the moment at which all
processes are ready, because their start is paid once per bench. The numbers take turns in every round.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rows import add_row, commit, load

from longtail.bench.budget import budget
from longtail.bench.cells import Cell, cells_of, jobs_for
from longtail.bench.plan import narrowed, parse_plan
from longtail.bench.runner import Runner
from longtail.run.fit import choose_device


class Timed(Runner):
    """Runner that waits until all processes are ready, and takes the time from then on."""

    began = 0.0

    def _fits(self, identity: str) -> bool:
        everyone = len(self._workers) == self.limits.jobs and all(worker.ready for worker in self._workers)
        if everyone and not self.began:
            self.began = time.perf_counter()
        return super()._fits(identity) and (bool(self.began) or len(self._workers) < self.limits.jobs)


def measure(cells: Sequence[Cell], jobs: int, device: str) -> dict[str, Any]:
    """Train cells, a number of them at once, and return trainings per minute and the memory of one."""
    with tempfile.TemporaryDirectory() as folder:
        runner = Timed(jobs_for(cells), Path(folder), budget(jobs, device=device))
        runner.run(lambda identity: None)
        seconds = time.perf_counter() - runner.began
        if runner.progress.failures:
            raise RuntimeError(next(iter(runner.progress.failures.values())))
        results = [json.loads(file.read_text("utf-8")) for file in Path(folder).glob("cells/*/result.json")]
    return {
        "per_minute": 60 * len(cells) / seconds,
        "images_per_second": sum(each["cost"]["images_per_second"] for each in results) / len(results),
        "memory_mb": max(each["cost"]["peak_memory_mb"] for each in results),
    }


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, os.cpu_count() or 2], help="numbers at once")
    parser.add_argument("--trainings", type=int, default=8, help="trainings in all for each number")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--data", default="digits-lt")
    parser.add_argument("--method", default="ce")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, help="file of JSON lines to append to, with a Markdown table next to it")
    options = parser.parse_args(given)
    plan = parse_plan("scale", {"data": options.data, "methods": [options.method], "seeds": options.trainings})
    changes: dict[str, Any] = {"device": options.device}
    if options.epochs is not None:
        changes["training"] = {"epochs": options.epochs}
    cells = [cell for _, _, cell in cells_of(narrowed(plan, changes=changes))]
    found: dict[int, list[dict[str, Any]]] = {jobs: [] for jobs in options.jobs}
    for _ in range(options.rounds):
        for jobs, each in found.items():
            each.append(measure(cells, jobs, options.device))
    print("at once  trainings/minute  images/s of one  memory of one (MB)")
    for jobs, each in found.items():
        row = {name: round(statistics.median(one[name] for one in each), 1) for name in each[0]}
        print(f"{jobs:7}  {row['per_minute']:16.1f}  {row['images_per_second']:15.0f}  {row['memory_mb']:18.0f}")
        if options.output is not None:
            device = choose_device(options.device)
            where = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
            about = {"data": options.data, "method": options.method, "at_once": jobs, **row, "rounds": options.rounds}
            add_row(options.output, {**about, "device": where, "load": load(), "commit": commit()})


if __name__ == "__main__":
    main()
