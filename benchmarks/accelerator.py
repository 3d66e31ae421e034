"""Train the queue of important figures on an accelerator that is at hand for minutes.

    PYTHONPATH=src LONGTAIL_DATA=data python benchmarks/accelerator.py --deadline 540 --out runs/accelerator
    python benchmarks/accelerator.py --rehearse          # the same code at toy size on a CPU, in about two minutes

The queue is a YAML file, most important step first. The steps compare the engines with the eager one for every method,
resume on the device, time the engines, train benchmark plans with the fastest verified engine, several trainings at
once, and run other benchmark scripts. Rows go to `rows.jsonl` and `rows.md` as they finish. The command ends before the
deadline: running trainings save their state, and the same command continues later. Nothing is installed or downloaded.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rows import add_row, commit, markdown, means
from rows import read_rows as read_table

from longtail._io import write_json, write_text
from longtail.bench.budget import budget
from longtail.bench.cells import PREFIX, Cell, Job, code_version, jobs_for
from longtail.bench.plan import Plan, narrowed, read_plan
from longtail.bench.run import rows_of
from longtail.bench.runner import Runner
from longtail.config.schema import Config
from longtail.errors import InputError
from longtail.run.fit import choose_device
from longtail.training.log import read_rows

PLANS = Path(__file__).parent / "plans"
RESERVE_S = 25.0
"""Seconds before the deadline at which running trainings start to save their state."""
EAGER = "eager"
TOLERANCE = 0.02
"""Largest relative difference of the mean loss of an epoch between two engines. Rounding grows over the steps."""
KNOWS_ENGINES = any(field.name == "engine" for field in dataclasses.fields(Config))


class OutOfTime(Exception):  # noqa: N818 - the expected end of a queue that is longer than the time
    """The deadline is near."""


class Interruption(Exception):  # noqa: N818 - wanted
    """Trainings are stopped to be resumed."""


class Queue:
    """Steps of a queue file, with what is known from an earlier call.

    Args:
        content: Content of the queue file.
        out: Folder of all results.
        device: Name of the device.
        deadline: Seconds until the command must have ended.
        command: Command line, for the rows.
    """

    def __init__(self, content: Mapping[str, Any], out: Path, device: str, deadline: float, command: str) -> None:
        self.steps, self.jobs = content["steps"], content.get("jobs", "auto")
        self.out, self.device, self.command = out, device, command
        self._until = time.monotonic() + deadline
        self._state_file = out / "state.json"
        out.mkdir(parents=True, exist_ok=True)
        self.state = self._read_state()

    def run(self) -> bool:
        """Run the steps that are not done. Returns whether all are done."""
        benches = [step for step in self.steps if step["kind"] == "bench"]
        try:
            for step in self.steps:
                if step["name"] in self.state["done"]:
                    continue
                print(f"{step['name']} ({self.left():.0f} s left)", flush=True)
                together = benches if step["kind"] == "bench" else [step]
                KINDS[step["kind"]](self, together if step["kind"] == "bench" else step)
                self.save(done=[*self.state["done"], *(each["name"] for each in together)])
        except OutOfTime:
            print("out of time; the state is saved, and the same command continues", flush=True)
            return False
        return True

    def save(self, **changes: Any) -> None:
        """Change the state, and write it to its file."""
        self.state |= changes
        write_json(self._state_file, self.state)

    def left(self) -> float:
        """Return the seconds until trainings must stop."""
        return self._until - RESERVE_S - time.monotonic()

    def check_time(self) -> None:
        """Raise `OutOfTime` if the deadline is near."""
        if self.left() <= 0:
            raise OutOfTime

    def add(self, step: str, **values: Any) -> None:
        """Append a row to the results."""
        where = torch.cuda.get_device_name() if choose_device(self.device).type == "cuda" else self.device
        about = {"device": where, "torch": torch.__version__, "commit": commit(), "command": self.command}
        add_row(self.out / "rows.jsonl", {"step": step, **values, **about})
        if "top1" in values:
            write_text(self.out / "summary.md", markdown(means(read_table(self.out / "rows.jsonl"))))

    def train(
        self,
        jobs: Mapping[str, Job],
        folder: Path,
        notify: Callable[[Runner, str | None], None],
        priority: Mapping[str, int] | None = None,
        alone: bool = False,
    ) -> Runner:
        """Train jobs until they are done or the deadline is near.

        Args:
            jobs: Jobs by identity.
            folder: Folder of the bench.
            notify: Called with the runner and the identity of a job that has ended, or None.
            priority: Rank of each job.
            alone: Train one job at a time.
        """
        at_once = 1 if alone else None if self.jobs == "auto" else int(self.jobs)
        runner = Runner(jobs, folder, budget(at_once, device=self.device), self.command, priority=priority)
        runner.patience = RESERVE_S / 2

        def on_tick(identity: str | None) -> None:
            notify(runner, identity)
            self.check_time()

        self.check_time()
        runner.run(on_tick)
        return runner

    def engine_of(self, method: str) -> str:
        """Return the fastest engine that is verified for a method."""
        ranked = self.state["speed"] or {EAGER: 0.0}
        known = [name for name in ranked if name == EAGER or method in self.state["verified"].get(name, ())]
        return max(known, key=lambda name: ranked[name], default=EAGER)

    def _read_state(self) -> dict[str, Any]:
        fresh = {"code": code_version(), "done": [], "verified": {}, "speed": {}}
        if not self._state_file.exists():
            return fresh
        known: dict[str, Any] = json.loads(self._state_file.read_text("utf-8"))
        return known if known["code"] == fresh["code"] else fresh  # other code must be verified again


def verify(queue: Queue, step: Mapping[str, Any]) -> None:
    """Compare each engine with the eager one: loss of every epoch and predicted classes."""
    names = [EAGER, *(step["engines"] if KNOWS_ENGINES else ())]
    found: dict[str, dict[str, Path]] = {}
    for engine in names:
        cells = {entry.method: cell for entry, cell in _cells(queue, step, engine)}
        folder = queue.out / f"verify-{engine.replace('+', '-')}"
        runner = queue.train(jobs_for(list(cells.values())), folder, lambda runner, identity: None)
        found[engine] = {name: runner.progress.folders[cell.identity] for name, cell in cells.items()}
        if engine == EAGER or engine in queue.state["verified"]:
            continue
        reasons = {
            name: runner.progress.failures.get(cells[name].identity) or _difference(found[EAGER][name], place, engine)
            for name, place in found[engine].items()
        }
        for name, reason in reasons.items():
            queue.add(step["name"], method=name, engine=engine, result=reason or "equal to eager")
        equal = [name for name, reason in reasons.items() if not reason]
        queue.save(verified={**queue.state["verified"], engine: equal})
        print(f"  {engine}: {len(equal)} of {len(reasons)} methods equal to eager", flush=True)


def resume(queue: Queue, step: Mapping[str, Any]) -> None:
    """Interrupt trainings, resume them, and compare the predictions with those of `verify`, bit by bit."""
    engines = [EAGER, *(name for name, methods in queue.state["verified"].items() if methods)]
    for engine in engines:
        cells = _cells(queue, step, engine)
        jobs = jobs_for([cell for _, cell in cells])
        name = engine.replace("+", "-")
        folder, whole = queue.out / f"resume-{name}", queue.out / f"verify-{name}"
        interrupted: set[str] = set()

        def interrupt(runner: Runner, identity: str | None, interrupted: set[str] = interrupted) -> None:
            running = set(runner.progress.began)
            logs = [runner.progress.folders[each] / "log.jsonl" for each in running]
            if running - interrupted and all(map(read_rows, logs)):
                interrupted |= running
                raise Interruption

        while True:
            try:
                queue.train(jobs, folder, interrupt)
                break
            except Interruption:
                continue
        for entry, cell in cells:
            same = _logits(cell.folder(folder), cell.folder(whole))
            result = ("same bits" if same else "DIFFERENT BITS") if cell.identity in interrupted else "not interrupted"
            queue.add(step["name"], method=entry.method, engine=engine, result=result)
            print(f"  {entry.method}, {engine}: {result}", flush=True)


def speed(queue: Queue, step: Mapping[str, Any]) -> None:
    """Time one training per verified engine, alone on the device."""
    for engine in (EAGER, *(name for name, methods in queue.state["verified"].items() if methods)):
        (cell, *_) = (cell for _, cell in _cells(queue, step, engine))
        jobs = jobs_for([cell])
        runner = queue.train(jobs, queue.out / f"speed-{engine.replace('+', '-')}", lambda *_: None, alone=True)
        rows = read_rows(runner.progress.folders[cell.identity] / "log.jsonl")
        rate = max((row["images_per_second"] for row in rows), default=0.0)  # without the warm-up
        queue.save(speed={**queue.state["speed"], engine: rate})
        queue.add(step["name"], method=cell.config.method, engine=engine, images_per_second=rate)
        print(f"  {engine}: {rate:,.0f} images/s", flush=True)


def bench(queue: Queue, steps: list[Mapping[str, Any]]) -> None:
    """Train all benchmark plans of the queue in one pool, so that the device is busy until the last one."""
    jobs: dict[str, Job] = {}
    priority: dict[str, int] = {}
    about: dict[str, tuple[str, str]] = {}
    for rank, step in enumerate(steps):
        plan = _plan(step, queue.device)
        cells = []
        for entry, each in rows_of(plan).values():
            engine = queue.engine_of(entry.method)
            cells += [_with_engine(cell, engine) for cell in each]
            about |= {cell.identity: (step["name"], engine) for cell in each if cell.identity not in about}
        for identity, job in jobs_for(cells).items():
            jobs.setdefault(identity, job)
            priority.setdefault(identity, rank)

    def add_finished(runner: Runner | None, identity: str | None = None) -> None:
        for each in jobs if identity is None and runner is None else filter(None, [identity]):
            if not jobs[each].hidden:
                _add_result(queue, *about[each], jobs[each].cell, folder, runner)

    folder = queue.out / "bench"
    add_finished(None)  # those that ended while an earlier call stopped
    queue.train(jobs, folder, add_finished, priority)


def script(queue: Queue, step: Mapping[str, Any]) -> None:
    """Run another benchmark script, and keep its output."""
    device = ["--device", "cuda" if queue.device == "auto" else queue.device]
    command = [sys.executable, str(Path(__file__).parent / step["script"]), *step.get("arguments", ()), *device]
    queue.check_time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=queue.left(), check=False)
    except subprocess.TimeoutExpired as error:
        raise OutOfTime from error
    text = done.stdout if done.returncode == 0 else f"{done.stdout}\nfailed:\n{done.stderr}"
    (queue.out / f"{Path(step['script']).stem}.txt").write_text(text, encoding="utf-8")
    queue.add(step["name"], result=f"exit code {done.returncode}", output=f"{Path(step['script']).stem}.txt")


KINDS: dict[str, Callable[[Queue, Any], None]] = {
    "verify": verify,
    "resume": resume,
    "speed": speed,
    "bench": bench,
    "script": script,
}


def _plan(step: Mapping[str, Any], device: str) -> Plan:
    return narrowed(read_plan(str(PLANS / step["plan"])), step.get("only", ()), step.get("seeds"), {"device": device})


def _cells(queue: Queue, step: Mapping[str, Any], engine: str) -> list[tuple[Any, Cell]]:
    """Return the rows of a plan and their first cells."""
    rows = rows_of(_plan(step, queue.device)).values()
    return [(entry, _with_engine(cells[0], engine)) for entry, cells in rows]


def _with_engine(cell: Cell, engine: str) -> Cell:
    """Return the same cell trained by an engine, which does not change its identity."""
    if not KNOWS_ENGINES:
        return cell
    return dataclasses.replace(cell, config=dataclasses.replace(cell.config, engine=engine))


def _difference(eager: Path, other: Path, engine: str) -> str:
    """Return in what two runs differ; empty if they agree within rounding."""
    if not (eager / "result.json").exists() or not (other / "result.json").exists():
        return "not finished"
    used = {each.get("engine") for each in json.loads((other / "result.json").read_text("utf-8"))["compute"].values()}
    if engine not in used:
        return f"{engine} was not used, but {', '.join(sorted(map(str, used)))}"
    for first, second in zip(read_rows(eager / "log.jsonl"), read_rows(other / "log.jsonl"), strict=True):
        if not np.isclose(first["loss"], second["loss"], rtol=TOLERANCE, atol=TOLERANCE):
            return f"loss {second['loss']:.4f} instead of {first['loss']:.4f} in epoch {first['epoch']}"
    return ""


def _logits(first: Path, second: Path) -> bool:
    """Return whether two finished runs have the same logits, bit by bit."""
    files = [folder / "predictions.npz" for folder in (first, second)]
    if not all(file.exists() for file in files):
        return False
    ours, theirs = (np.load(file)["logits"] for file in files)
    return bool(np.array_equal(ours, theirs))


def _add_result(queue: Queue, step: str, engine: str, cell: Cell, folder: Path, runner: Runner | None) -> None:
    """Add the row of a training that has ended, if it has none yet."""
    file, name = cell.folder(folder) / "result.json", cell.identity[:PREFIX]
    if any(row.get("cell") == name and "top1" in row for row in read_table(queue.out / "rows.jsonl")):
        return
    about = {
        "cell": name,
        "method": cell.config.method,
        "data": cell.config.data.shown_as,
        "recipe": cell.config.recipe,
    }
    about |= {"imbalance": cell.config.data.imbalance_factor, "seed": cell.config.seed, "engine": engine}
    if not file.exists():
        if runner is not None:
            queue.add(step, **about, result=f"failed: {runner.progress.failures.get(cell.identity)}")
        return
    result = json.loads(file.read_text("utf-8"))
    scores = {name: result["test"].get(name) for name in ("top1", "many", "medium", "few")}
    cost = {name: result["cost"][name] for name in ("seconds", "images_per_second", "peak_memory_mb")}
    queue.add(step, **about, **scores, **cost, at_once=None if runner is None else runner.adaptive.now)
    print(f"  {cell.about}: {scores['top1']:.1f}", flush=True)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deadline", type=float, default=540.0, metavar="SECONDS", help="end before this time")
    parser.add_argument("--out", type=Path, default=Path("runs/accelerator"), help="folder of all results")
    parser.add_argument("--queue", type=Path, help="queue file; default: plans/accelerator.yaml")
    parser.add_argument("--device", default=None, help="default: auto, or cpu with --rehearse")
    parser.add_argument("--rehearse", action="store_true", help="run a toy queue on the CPU")
    options = parser.parse_args(given)
    queue = options.queue or PLANS / ("rehearsal.yaml" if options.rehearse else "accelerator.yaml")
    device = options.device or ("cpu" if options.rehearse else "auto")
    if device == "auto" and not torch.cuda.is_available():
        raise SystemExit("there is no accelerator; use --rehearse or --device cpu")
    command = " ".join(["python benchmarks/accelerator.py", *(sys.argv[1:] if given is None else given)])
    content = yaml.safe_load(queue.read_text("utf-8"))
    try:
        finished = Queue(content, options.out, device, options.deadline, command).run()
    except InputError as error:
        raise SystemExit(f"accelerator.py: {error}") from error
    print(f"{'finished' if finished else 'not finished'}; rows: {options.out / 'rows.md'}")


if __name__ == "__main__":
    main()
