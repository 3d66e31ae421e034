"""Train the cells of a plan in parallel, within a budget of cores and memory. An interrupted bench resumes."""

import itertools
import logging
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout

from longtail import _threads
from longtail._io import write_json
from longtail._logging import console
from longtail._signals import sigterm_as_ctrl_c
from longtail.bench.adapt import Adaptive, Meter
from longtail.bench.budget import LEAST_GB, Budget, pinned_cores
from longtail.bench.cells import Cell, Job, code_version
from longtail.bench.mps import mps_server
from longtail.bench.worker import OUTPUT, PATIENCE, Message, Worker
from longtail.config.convert import to_mapping
from longtail.errors import InputError
from longtail.report.wording import several

GRACE = 5.0
"""Seconds that a bench waits for its workers beyond `PATIENCE`."""
TICK = 0.5
"""Seconds between two checks of the workers."""
OUT_OF_MEMORY = "out of memory"
"""Part of the message of an accelerator without free memory."""
State = Literal["waiting", "running", "done", "failed"]

logger = logging.getLogger("longtail")


@dataclass
class Progress:
    """State of a bench.

    Args:
        jobs: All jobs by identity.
        folders: Folder of each job's run.
        states: State of each job.
        failures: Reason of each failed job.
        began: Start of each running job, in seconds of `time.monotonic`.
        known: Jobs that were done before the bench started.
        started: Start of the bench, in seconds of `time.monotonic`.
    """

    jobs: Mapping[str, Job]
    folders: Mapping[str, Path]
    states: dict[str, State]
    failures: dict[str, str] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    started: float = field(default_factory=time.monotonic)

    def count(self, state: State) -> int:
        """Return the number of jobs in a state."""
        return sum(each == state for each in self.states.values())


class Runner:
    """Pool of worker processes that trains jobs.

    Args:
        jobs: Jobs by identity, see `jobs_for`.
        out: Folder of the bench.
        limits: Limits of cores and memory.
        command: Command line, for the results.
        keep: Identities for which a result of an older version of the code is accepted.
        priority: Jobs with a lower number start first. Default: 0 for each.
    """

    def __init__(
        self,
        jobs: Mapping[str, Job],
        out: Path,
        limits: Budget,
        command: str = "",
        keep: frozenset[str] = frozenset(),
        priority: Mapping[str, int] | None = None,
    ) -> None:
        self.out, self.limits, self.command = out, limits, command
        folders = {identity: job.cell.folder(out) for identity, job in jobs.items()}
        done = frozenset(identity for identity, folder in folders.items() if (folder / "result.json").exists())
        needed = _needed(jobs, done, keep)
        states: dict[str, State] = {identity: "waiting" if identity in needed else "done" for identity in jobs}
        self.progress = Progress(jobs, folders, states, known=frozenset(jobs.keys() - needed))
        self.adaptive = Adaptive(limits)
        self.patience = PATIENCE
        self._meter = Meter(jobs, folders)
        self._priority = priority or {}
        self._environment: dict[str, str] = {}
        self._messages: queue.Queue[Message] = queue.Queue()
        self._workers: list[Worker] = []
        self._started = 0
        self._needs_gb: dict[str, float] = {}

    def run(self, notify: Callable[[str | None], None]) -> None:
        """Train until every job is done or failed.

        Args:
            notify: Called with the identity of each job that ends, and with None after each check of the workers.

        Raises:
            InputError: If another bench uses the folder, or the source files change during the bench.
            KeyboardInterrupt: On Ctrl-C and SIGTERM, after the states are saved.
        """
        with bench_lock(self.out), sigterm_as_ctrl_c(), self._gpu_server() as variables:
            self._environment = {**os.environ, **variables}
            try:
                while self.progress.count("waiting") + self.progress.count("running"):
                    self._give_orders()
                    notify(self._receive())
                    self._adapt()
            except BaseException:
                self._stop()
                raise
            self._end_workers()

    def _gpu_server(self) -> AbstractContextManager[dict[str, str]]:
        """Return the context in which several trainings share a GPU; an empty one elsewhere."""
        waiting = [job for each, job in self.progress.jobs.items() if self.progress.states[each] == "waiting"]
        names = {job.cell.config.device for job in waiting}
        on_cuda = torch.cuda.is_available() and any(name == "auto" or name.startswith("cuda") for name in names)
        return mps_server(self.out) if on_cuda and self.limits.most > 1 else nullcontext({})

    def _adapt(self) -> None:
        """Adapt the number of trainings at once to the measured speed."""
        if self.adaptive.observe(time.monotonic(), *self._meter.read(), self.progress.count("running")):
            jobs, speeds = self.adaptive.now, self.adaptive.speeds
            measured = ", ".join(f"{speed:.2f} with {each}" for each, speed in speeds.items())
            logger.info("%s at once from now on; trainings per minute: %s", several(jobs, "training"), measured)

    def _give_orders(self) -> None:
        self._fail_dependents()
        ready = self._ready()
        for worker in self._workers:
            worker.peak_memory_gb()  # samples the memory
        idle = [worker for worker in self._workers if worker.ready and worker.job is None and not worker.retired]
        free = self.adaptive.now - self.progress.count("running")
        while ready and idle and free > 0 and self._fits(ready[0]):  # in order: no small job delays a large one forever
            self._order(idle.pop(), ready.pop(0))
            free -= 1
        starting = sum(not worker.ready for worker in self._workers)
        if len(ready) > starting and not idle and len(self._workers) < self.adaptive.now and self._fits(ready[0]):
            self._start_worker()

    def _start_worker(self) -> None:
        limits, taken = self.limits, {worker.place for worker in self._workers}
        place = next(each for each in itertools.count() if each not in taken)
        environment = _threads.environment(limits.threads, max(1, limits.cores // limits.most), self._environment)
        lock = self.out / f".worker-{self._started}.lock"
        errors = self.out / "workers.txt"
        self._workers.append(Worker(environment, self._messages, errors, lock, place, pinned_cores(limits, place)))
        self._started += 1

    def _order(self, worker: Worker, identity: str) -> None:
        job, folder = self.progress.jobs[identity], self.progress.folders[identity]
        folder.mkdir(parents=True, exist_ok=True)
        write_cell(folder, job.cell)
        start = None if job.start is None else str(self.progress.folders[job.start])
        order = {"config": to_mapping(job.cell.config), "folder": str(folder), "start": start, "command": self.command}
        self._meter.begin(identity)
        worker.give(identity, order)
        self.progress.states[identity] = "running"
        self.progress.began[identity] = time.monotonic()

    def _receive(self) -> str | None:
        """Process the next answer of a worker, and return the identity of the job that ended, if any."""
        try:
            worker, answer = self._messages.get(timeout=TICK)
        except queue.Empty:
            return None
        if answer is None:
            self._workers.remove(worker)
            if worker.job is None and not worker.ready:
                raise RuntimeError(f"a worker could not start; see {self.out / 'workers.txt'}")
            return None if worker.job is None else self._end(worker, worker.how_it_ended())
        if "ready" in answer:
            if answer["ready"] != code_version():
                raise InputError("the source files of longtail changed during this bench; start it again")
            worker.ready = True
            return None
        if "interrupted" in answer:  # a signal from outside the bench
            return self._end(worker, "its process received a signal to stop; its state is saved")
        failure = answer.get("failed")
        if answer.get("broken"):
            worker.retire()
        if failure is not None and OUT_OF_MEMORY in failure.lower() and self.progress.count("running") > 1:
            self._try_again(worker)
            return None
        return self._end(worker, failure)

    def _try_again(self, worker: Worker) -> None:
        """Let a training wait that found no memory on the accelerator next to the others."""
        identity = worker.job
        assert identity is not None
        self.adaptive.out_of_memory()
        logger.info("no memory for %s at once; from now on %d", self.progress.count("running"), self.adaptive.now)
        worker.job = None
        del self.progress.began[identity]
        self.progress.states[identity] = "waiting"

    def _end(self, worker: Worker, failure: str | None) -> str:
        identity = worker.job
        assert identity is not None
        self._needs_gb[self._kind(identity)] = self._need(identity, worker)
        worker.job = None
        self._meter.end(identity)
        del self.progress.began[identity]
        self.progress.states[identity] = "done" if failure is None else "failed"
        if failure is not None:
            self.progress.failures[identity] = f"{failure} (see {self.progress.folders[identity] / OUTPUT})"
        return identity

    def _ready(self) -> list[str]:
        """Return the jobs that can start: per seed, those that others start from first, then in the plan's order."""
        states, jobs = self.progress.states, self.progress.jobs
        ready = [i for i, job in jobs.items() if states[i] == "waiting" and _can_start(job, states)]
        awaited = {job.start for i, job in jobs.items() if states[i] == "waiting"}
        return sorted(ready, key=lambda i: (self._priority.get(i, 0), jobs[i].cell.config.seed, i not in awaited))

    def _fail_dependents(self) -> None:
        states = self.progress.states
        for identity, job in self.progress.jobs.items():
            if states[identity] == "waiting" and job.start is not None and states[job.start] == "failed":
                states[identity] = "failed"
                first = self.progress.jobs[job.start].cell.about
                self.progress.failures[identity] = f"its first stage failed: {first}"

    def _fits(self, identity: str) -> bool:
        """Return whether the memory suffices for one more job."""
        busy = [worker for worker in self._workers if worker.job is not None]
        taken = sum(self._need(worker.job, worker) for worker in busy if worker.job is not None)
        return not busy or taken + self._need(identity) <= self.limits.memory_gb

    def _need(self, identity: str, worker: Worker | None = None) -> float:
        """Return the largest memory in GiB that a job of this kind is known to take."""
        now = 0.0 if worker is None else worker.peak_memory_gb()
        return max(LEAST_GB, now, self._needs_gb.get(self._kind(identity), 0.0))

    def _kind(self, identity: str) -> str:
        config = self.progress.jobs[identity].cell.config
        return f"{config.data.name} {config.model.backbone}"

    def _stop(self) -> None:
        """Let every worker save its state and end. A second Ctrl-C kills them."""
        busy = [worker for worker in self._workers if worker.job is not None]
        if busy:
            console.print(f"stopping: {several(len(busy), 'training')} to save first (Ctrl-C again to stop at once)")
        try:
            self._end_workers()
        finally:
            for worker in self._workers:
                worker.kill()

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        for worker in self._workers:
            worker.wait(self.patience + GRACE)


def write_cell(folder: Path, cell: Cell) -> None:
    """Write the hashes of a cell to its folder, by which a bench with another version of the code finds it."""
    about: dict[str, Any] = {
        "identity": cell.identity,
        "settings": cell.settings,
        "split": cell.split,
        "code": cell.code,
    }
    write_json(folder / "cell.json", about)


@contextmanager
def bench_lock(out: Path) -> Iterator[None]:
    """Lock the folder of a bench. The workers of a killed bench are waited for, because they still save their states.

    Args:
        out: Folder of the bench. It is created if missing.

    Raises:
        InputError: If the folder cannot be written, or is still in use after `PATIENCE` seconds.
    """
    until = time.monotonic() + PATIENCE
    lock = FileLock(out / ".lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _acquire(lock, until)
        for path in sorted(out.glob(".worker-*.lock")):
            worker_lock = FileLock(path)
            _acquire(worker_lock, until)
            worker_lock.release()
            path.unlink(missing_ok=True)
    except Timeout as error:
        lock.release()
        raise InputError(f"another bench uses {out}; wait for it, or choose another folder") from error
    except OSError as error:
        lock.release()
        raise InputError(f"cannot write to {out}: {error.strerror or error}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, until: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        console.print(f"{Path(lock.lock_file).parent} is in use; waiting for the processes of an earlier bench to end")
        lock.acquire(timeout=max(0.0, until - time.monotonic()), poll_interval=TICK)


def _needed(jobs: Mapping[str, Job], done: frozenset[str], keep: frozenset[str]) -> set[str]:
    """Return the jobs to train: those without an accepted result, and the jobs that these start from."""
    needed: set[str] = set()
    for identity in reversed(list(jobs)):  # a job comes after the one that it starts from
        awaited = any(jobs[other].start == identity for other in needed)
        wanted = not jobs[identity].hidden and identity not in keep
        if identity not in done and (awaited or wanted):
            needed.add(identity)
    return needed


def _can_start(job: Job, states: Mapping[str, State]) -> bool:
    return job.start is None or states[job.start] == "done"
