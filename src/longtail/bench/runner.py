"""Train the cells of a plan in parallel, within a budget of cores and memory. An interrupted bench resumes."""

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psutil
import torch
from filelock import FileLock, Timeout

from longtail._io import write_json
from longtail._logging import console
from longtail.bench.cells import Cell, Job, code_version
from longtail.bench.worker import OUTPUT, PATIENCE, Message, Worker
from longtail.config.convert import to_mapping
from longtail.errors import InputError
from longtail.report.wording import several

LEAST_GB = 0.6
"""Main memory in GiB of a process that has imported torch."""
GRACE = 5.0
"""Seconds that a bench waits for its workers beyond `PATIENCE`."""
TICK = 0.5
"""Seconds between two checks of the workers."""
State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class Budget:
    """Limits of a bench.

    Args:
        jobs: Number of worker processes.
        threads: Number of threads of each process.
        memory_gb: Main memory of all processes together in GiB. A cell that needs more runs alone.
    """

    jobs: int
    threads: int
    memory_gb: float


def budget(jobs: int | None = None, memory_gb: float | None = None) -> Budget:
    """Divide the cores among worker processes. `OMP_NUM_THREADS` limits the threads of each.

    Args:
        jobs: Number of processes. Default: one per core, or one per four cores if they share an accelerator.
        memory_gb: Main memory in GiB. Default: four fifths of the available memory.

    Raises:
        InputError: If a value is not positive.

    Example:
        >>> budget(jobs=2, memory_gb=8.0).jobs
        2
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"`jobs` must be an integer >= 1, got {jobs}; omit it to use all cores")
    if memory_gb is not None and memory_gb <= 0:
        raise InputError(f"`memory_gb` must be > 0, got {memory_gb}; omit it to use the available memory")
    process = psutil.Process()
    cores = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count() or 1
    memory = memory_gb or 0.8 * psutil.virtual_memory().available / 2**30
    if jobs is None:
        wanted = max(1, cores // 4) if torch.accelerator.is_available() else cores
        jobs = max(1, min(wanted, int(memory / LEAST_GB)))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, cores // jobs)
    return Budget(jobs, min(threads, int(limit)) if limit.isdecimal() and int(limit) else threads, memory)


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
        with bench_lock(self.out), _sigterm_as_ctrl_c():
            try:
                while self.progress.count("waiting") + self.progress.count("running"):
                    self._give_orders()
                    notify(self._receive())
            except BaseException:
                self._stop()
                raise
            self._end_workers()

    def _give_orders(self) -> None:
        self._fail_dependents()
        ready = self._ready()
        for worker in self._workers:
            worker.peak_memory_gb()  # samples the memory
        idle = [worker for worker in self._workers if worker.ready and worker.job is None]
        while ready and idle and self._fits(ready[0]):  # in order: a small job must not delay a large one forever
            self._order(idle.pop(), ready.pop(0))
        starting = sum(not worker.ready for worker in self._workers)
        if len(ready) > starting and not idle and len(self._workers) < self.limits.jobs and self._fits(ready[0]):
            lock = self.out / f".worker-{self._started}.lock"
            self._workers.append(Worker(self.limits.threads, self._messages, self.out / "workers.txt", lock))
            self._started += 1

    def _order(self, worker: Worker, identity: str) -> None:
        job, folder = self.progress.jobs[identity], self.progress.folders[identity]
        folder.mkdir(parents=True, exist_ok=True)
        write_cell(folder, job.cell)
        start = None if job.start is None else str(self.progress.folders[job.start])
        order = {"config": to_mapping(job.cell.config), "folder": str(folder), "start": start, "command": self.command}
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
        """Return the jobs that can start: per seed, those that others start from first, then in the plan's order."""
        states, jobs = self.progress.states, self.progress.jobs
        ready = [i for i, job in jobs.items() if states[i] == "waiting" and _can_start(job, states)]
        awaited = {job.start for i, job in jobs.items() if states[i] == "waiting"}
        return sorted(ready, key=lambda i: (jobs[i].cell.config.seed, i not in awaited))

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
            worker.wait(PATIENCE + GRACE)


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


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # only the main thread can handle signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
