"""Train the cells of a plan, several at once, within a budget of cores and memory; goes on where it was stopped."""

import queue
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from longtail._io import write_json
from longtail._logging import console
from longtail.bench.cells import Cell, Job, code_version
from longtail.bench.crew import Message, Worker
from longtail.bench.limits import LEAST_GB, PATIENCE, TICK, Budget, claimed, sigterm_as_ctrl_c
from longtail.bench.worker import OUTPUT
from longtail.config.convert import to_mapping
from longtail.errors import InputError
from longtail.report.wording import several

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class Progress:
    """How far a plan has got.

    Args:
        jobs: all of them.
        folders: of their runs.
        states: of each.
        failures: why, of those that failed.
        began: when those that run now began (`time.monotonic()`).
        known: those that were done before.
        started: when all this began.
    """

    jobs: Mapping[str, Job]
    folders: Mapping[str, Path]
    states: dict[str, State]
    failures: dict[str, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    started: float = field(default_factory=time.monotonic)

    def count(self, state: State) -> int:
        """How many jobs are in a state."""
        return sum(each == state for each in self.states.values())


class Runner:
    """Trains jobs.

    Args:
        jobs: by identity, see `jobs_for`.
        out: folder of the bench.
        limits: what may be used at once.
        command: what the user typed, for the results.
        keep: identities whose results need not be had anew: older ones stand in for them.
    """

    def __init__(
        self, jobs: Mapping[str, Job], out: Path, limits: Budget, command: str = "", keep: frozenset[str] = frozenset()
    ) -> None:
        self.out, self.limits, self.command = out, limits, command
        folders = {identity: job.cell.folder(out) for identity, job in jobs.items()}
        done = frozenset(identity for identity, folder in folders.items() if (folder / "result.json").exists())
        needed = _needed(jobs, done, keep)
        states: dict[str, State] = {identity: "waiting" if identity in needed else "done" for identity in jobs}
        self.progress = Progress(jobs, folders, states, known=frozenset(jobs.keys() - needed))
        self._messages: queue.Queue[Message] = queue.Queue()
        self._workers: list[Worker] = []
        self._needs_gb: dict[str, float] = {}

    def run(self, tell: Callable[[str | None], None]) -> None:
        """Train until nothing is left to do.

        Args:
            tell: called with the identity of each job that ends, and with None when it is time to look at what runs.

        Raises:
            InputError: if another bench uses the folder, or the source files change meanwhile.
            KeyboardInterrupt: on Ctrl-C and SIGTERM, once the states are saved.
        """
        with claimed(self.out) as lock, sigterm_as_ctrl_c():
            try:
                while self.progress.count("waiting") + self.progress.count("running"):
                    self._give_orders(lock)
                    tell(self._hear())
            except BaseException:
                self._stop()
                raise
            for worker in self._workers:
                worker.dismiss()
            for worker in self._workers:
                worker.wait(PATIENCE)

    def _give_orders(self, lock: IO[str]) -> None:
        self._fail_those_that_can_not_start()
        ready = self._ready()
        idle = [worker for worker in self._workers if worker.ready and worker.job is None]
        while ready and idle and self._fits(ready[0]):  # no small one overtakes a large one for ever
            self._order(idle.pop(), ready.pop(0))
        starting = sum(not worker.ready for worker in self._workers)
        if len(ready) > starting and not idle and len(self._workers) < self.limits.jobs and self._fits(ready[0]):
            self._workers.append(Worker(self.limits.threads, self._messages, self.out / "workers.txt", lock))

    def _order(self, worker: Worker, identity: str) -> None:
        job, folder = self.progress.jobs[identity], self.progress.folders[identity]
        folder.mkdir(parents=True, exist_ok=True)
        write_cell(folder, job.cell)
        start = None if job.start is None else str(self.progress.folders[job.start])
        order = {"config": to_mapping(job.cell.config), "folder": str(folder), "start": start, "command": self.command}
        worker.give(identity, order)
        self.progress.states[identity] = "running"
        self.progress.began[identity] = time.monotonic()

    def _hear(self) -> str | None:
        """The next answer of a worker; nothing if none comes for a while."""
        try:
            worker, answer = self._messages.get(timeout=TICK)
        except queue.Empty:
            return None
        if answer is None:
            self._workers.remove(worker)
            if worker.job is None and not worker.ready:
                raise RuntimeError(f"a worker could not start; {self.out / 'workers.txt'} says why")
            return None if worker.job is None else self._end(worker, worker.how_it_ended())
        if "ready" in answer:
            if answer["ready"] != code_version():
                raise InputError("the source files of longtail have changed since this bench began; start it again")
            worker.ready = True
            return None
        if "interrupted" in answer:  # someone stopped the worker, not us
            return self._end(worker, "its process was told to stop; the state is saved")
        return self._end(worker, answer.get("failed"))

    def _end(self, worker: Worker, failure: str | None) -> str:
        identity = worker.job
        assert identity is not None
        self._needs_gb[self._kind(identity)] = self._need(identity, worker)
        worker.job = None
        del self.progress.began[identity]
        self.progress.states[identity] = "done" if failure is None else "failed"
        if failure is not None:
            self.progress.failures[identity] = f"{failure} (see {self.progress.folders[identity] / OUTPUT})"
        return identity

    def _ready(self) -> list[str]:
        """What could begin now: first what others wait for, then seed by seed, so that the table fills evenly."""
        states, jobs = self.progress.states, self.progress.jobs
        ready = [i for i, job in jobs.items() if states[i] == "waiting" and _begun(job, states)]
        waited_for = {job.start for i, job in jobs.items() if states[i] == "waiting"}
        return sorted(ready, key=lambda i: (jobs[i].cell.config.seed, i not in waited_for))

    def _fail_those_that_can_not_start(self) -> None:
        states = self.progress.states
        for identity, job in self.progress.jobs.items():
            if states[identity] == "waiting" and job.start is not None and states[job.start] == "failed":
                states[identity] = "failed"
                first = self.progress.jobs[job.start].cell.about
                self.progress.failures[identity] = f"its first stage failed: {first}"

    def _fits(self, identity: str) -> bool:
        """Whether the memory suffices for one more."""
        busy = [worker for worker in self._workers if worker.job is not None]
        taken = sum(self._need(worker.job, worker) for worker in busy if worker.job is not None)
        return not busy or taken + self._need(identity) <= self.limits.memory_gb

    def _need(self, identity: str, worker: Worker | None = None) -> float:
        """The most memory that a cell of this kind is known to take."""
        now = 0.0 if worker is None else worker.peak_memory_gb()
        return max(LEAST_GB, now, self._needs_gb.get(self._kind(identity), 0.0))

    def _kind(self, identity: str) -> str:
        config = self.progress.jobs[identity].cell.config
        return f"{config.data.name} {config.model.backbone}"

    def _stop(self) -> None:
        """Let every worker save its state and end; a second Ctrl-C makes them end at once."""
        busy = [worker for worker in self._workers if worker.job is not None]
        if busy:
            console.print(f"stopping: {several(len(busy), 'training')} to save first (Ctrl-C again to stop at once)")
        try:
            for worker in self._workers:
                worker.stop()
            for worker in self._workers:
                worker.wait(PATIENCE)
        finally:
            for worker in self._workers:
                worker.stop(signal.SIGKILL)


def write_cell(folder: Path, cell: Cell) -> None:
    """Say in a cell's folder what it is, so that a later bench knows it even under another version of the code."""
    about: dict[str, Any] = {
        "identity": cell.identity,
        "settings": cell.settings,
        "split": cell.split,
        "code": cell.code,
    }
    write_json(folder / "cell.json", about)


def _needed(jobs: Mapping[str, Job], done: frozenset[str], keep: frozenset[str]) -> set[str]:
    """What is still to be trained: what nothing stands in for, and what something of that starts from."""
    needed: set[str] = set()
    for identity in reversed(list(jobs)):  # what starts from a job comes after it
        waited_for = any(jobs[other].start == identity for other in needed)
        wanted = not jobs[identity].hidden and identity not in keep
        if identity not in done and (waited_for or wanted):
            needed.add(identity)
    return needed


def _begun(job: Job, states: Mapping[str, State]) -> bool:
    return job.start is None or states[job.start] == "done"
