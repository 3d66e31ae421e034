"""Cores and memory of a bench."""

import os
from dataclasses import dataclass

import psutil
import torch

from longtail._threads import available_cores, users_limit
from longtail.errors import InputError

LEAST_GB = 0.6
"""Main memory in GiB of a process that has imported torch."""
LEAST_GB_ON_ACCELERATOR = 2.0
"""Main memory in GiB of a process that also holds the libraries of an accelerator."""
FEW_CORES = 4
"""Up to this number of cores, one training per core is taken as the best without measuring fewer."""


@dataclass(frozen=True)
class Budget:
    """Limits of a bench.

    Args:
        jobs: Number of trainings at once; if `most` > `fewest`, only at first.
        threads: Number of threads of each process.
        memory_gb: Main memory of all processes together in GiB. A cell that needs more runs alone.
        cores: Number of cores that all processes share.
        fewest: Smallest number of trainings at once that may be tried.
        most: Largest number of trainings at once that may be tried.
    """

    jobs: int
    threads: int
    memory_gb: float
    cores: int
    fewest: int
    most: int

    def __str__(self) -> str:
        """Describe the limits, such as "2 trainings at once, 1 thread each on 2 cores"."""
        jobs = "1 training at a time" if self.jobs == 1 else f"{self.jobs} trainings at once"
        varies = f" at first ({self.fewest} to {self.most})" if self.most > self.fewest else ""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'} each"
        return f"{jobs}{varies}, {threads} on {self.cores} core{'' if self.cores == 1 else 's'}"


def budget(
    jobs: int | None = None, memory_gb: float | None = None, threads: int | None = None, device: str = "auto"
) -> Budget:
    """Divide the cores among worker processes. `OMP_NUM_THREADS` limits the threads of each.

    Args:
        jobs: Number of trainings at once. None starts with one per core, or one per four cores if they share an
            accelerator, and adapts the number to the measured speed.
        memory_gb: Main memory in GiB. Default: four fifths of the available memory.
        threads: Number of threads of each training. Default: the share of the cores.
        device: Device of the trainings.

    Raises:
        InputError: If a value is not positive.

    Example:
        >>> budget(jobs=2, memory_gb=8.0).jobs
        2
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"`jobs` must be an integer >= 1, got {jobs}; omit it to find the number by measuring")
    if threads is not None and threads < 1:
        raise InputError(f"`threads` must be an integer >= 1, got {threads}; omit it to share the cores")
    if memory_gb is not None and memory_gb <= 0:
        raise InputError(f"`memory_gb` must be > 0, got {memory_gb}; omit it to use the available memory")
    cores = available_cores()
    memory = memory_gb or 0.8 * psutil.virtual_memory().available / 2**30
    fewest, first, most = (jobs,) * 3 if jobs is not None else _range(cores, memory, threads or 1, device)
    share = max(1, cores // (first if jobs is not None else most))
    limit = users_limit()
    return Budget(first, threads or min(share, limit or share), memory, cores, fewest, most)


def pinned_cores(limits: Budget, place: int) -> list[int]:
    """Return the cores of one of several processes that together use every core; none if they do not.

    A pinned process loses nothing to others of the same bench. Pins that leave cores unused would let two benches
    share a core while another one is idle.

    Args:
        limits: Limits of the bench.
        place: Number of the process among those that run at the same time, from 0.
    """
    known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(known) != limits.cores or limits.most * limits.threads != limits.cores or place >= limits.most:
        return []
    return known[place * limits.threads : (place + 1) * limits.threads]


def _range(cores: int, memory_gb: float, threads: int, device: str) -> tuple[int, int, int]:
    """Return the smallest, first and largest number of trainings at once."""
    shared = device != "cpu" and torch.accelerator.is_available()
    places = max(1, min(cores // threads, int(memory_gb / (LEAST_GB_ON_ACCELERATOR if shared else LEAST_GB))))
    if shared:
        return 1, max(1, min(places, cores // 4)), places
    return places if places <= FEW_CORES else places // 2, places, places
