"""What a bench may use: cores, memory, and a folder of its own; and how it is told to stop."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import torch

from longtail._logging import console
from longtail.errors import InputError

LEAST_GB = 0.6
"""Main memory that a process needs that has imported torch."""
PATIENCE = 60.0
"""Seconds for the workers of a bench that was killed, or is told to stop, to save their states."""
TICK = 0.5
"""Seconds between looks at what goes on."""


@dataclass(frozen=True)
class Budget:
    """What may be used at once.

    Args:
        jobs: processes.
        threads: of each process.
        memory_gb: main memory of all processes together; a cell that needs more runs alone.
    """

    jobs: int
    threads: int
    memory_gb: float


def budget(jobs: int | None = None, memory_gb: float | None = None) -> Budget:
    """Settle how much may be used at once; the cores are shared out, OMP_NUM_THREADS being the most per process.

    Args:
        jobs: processes; None takes one per core, or a quarter of that where an accelerator is shared.
        memory_gb: main memory; None takes four fifths of what is free now.

    Raises:
        InputError: if either is not positive.

    Example:
        >>> budget(jobs=2, memory_gb=8.0).jobs
        2
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {jobs}; leave it out to use all cores")
    if memory_gb is not None and memory_gb <= 0:
        raise InputError(f"--memory-gb must be positive, not {memory_gb}; leave it out to use what is free")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = memory_gb or 0.8 * _free_memory_gb()
    if jobs is None:
        wanted = max(1, cores // 4) if torch.accelerator.is_available() else cores
        jobs = max(1, min(wanted, int(memory / LEAST_GB)))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, cores // jobs)
    return Budget(jobs, min(threads, int(asked)) if asked.isdigit() and asked != "0" else threads, memory)


def _free_memory_gb() -> float:
    """Main memory that is free for use; a guess of 8 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2**20
    except (OSError, StopIteration, ValueError):
        return 8.0


@contextmanager
def claimed(out: Path) -> Iterator[IO[str]]:
    """Within, no other bench trains into the folder; the workers of one that was killed are waited for."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise InputError(f"can not write into {out}: {error.strerror or error}; choose another --out") from error
    with lock:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise InputError(
                        f"another bench is at work in {out}; wait for it, or choose another --out"
                    ) from error
            if until - time.monotonic() > PATIENCE - TICK:
                console.print(f"{out} is in use; waiting for the processes of the bench before to end")
            time.sleep(TICK)
        yield lock


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within, SIGTERM stops as cleanly as Ctrl-C does."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # signals belong to the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
