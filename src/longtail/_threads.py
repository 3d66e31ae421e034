"""Threads for computing: how many, and how they wait for each other. Imports no torch, which reads both when it loads.

The GNU OpenMP library that PyTorch ships lets waiting threads spin. If another process needs the same cores, every
parallel region then lasts until the scheduler has taken the cores away from the spinning threads. Threads that sleep
instead (`OMP_WAIT_POLICY=PASSIVE`) keep most of the speed on a busy machine; see benchmarks/results.md.
"""

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtail.errors import InputError

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""Control groups of this process."""
SHARE = "LONGTAIL_CORES"
"""Environment variable with the number of cores that a process may use, which a bench sets for its workers."""
WAIT_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a user sets how OpenMP threads wait."""


@dataclass(frozen=True)
class Threads:
    """Number of threads and the reason for it.

    Args:
        count: Number of threads.
        cores: Number of cores that this process may use.
        reason: Why the count differs from the number of cores. Empty if it does not.
        fixed: True if the user gave the number.
    """

    count: int
    cores: int
    reason: str = ""
    fixed: bool = False

    def __str__(self) -> str:
        """Describe the choice, such as "threads: 2 of 2 cores"."""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}"
        return f"threads: {self.count} of {cores}{f' ({self.reason})' if self.reason else ''}"


_chosen: Threads | None = None
_users_limit: int | None = None
_ours: str | None = None  # the value of OMP_NUM_THREADS that `prepare` wrote


def prepare(threads: int | None = None) -> Threads:
    """Set number and waiting of the threads of this process, and return the choice.

    `threads` comes before the variable `OMP_NUM_THREADS`, and both before the automatic choice: the available cores
    less those that other processes keep busy. If torch is loaded already, only an explicit number changes anything.

    Args:
        threads: Number of threads. None chooses one.

    Raises:
        InputError: If `threads` is not positive.
    """
    global _chosen
    if threads is not None and threads < 1:
        raise InputError(f"`threads` must be an integer >= 1, got {threads}; omit it to choose one")
    cores, limit, loaded = available_cores(), users_limit(), sys.modules.get("torch")
    if threads is not None:
        _chosen = Threads(threads, cores, "" if threads == cores else "as set", fixed=True)
    elif loaded is not None:
        _chosen = Threads(loaded.get_num_threads(), cores, "as set by this process", fixed=True)
    elif limit is not None:
        _chosen = Threads(limit, cores, "OMP_NUM_THREADS", fixed=True)
    else:
        _chosen = _automatic(cores)
    if loaded is None:
        _set_environment(_chosen.count)
    elif threads is not None:
        loaded.set_num_threads(threads)
    return _chosen


def follow(saved: int | None) -> int | None:
    """Use the number of threads of the run that is resumed, because the last bits of a result depend on it.

    Args:
        saved: Number of threads in the checkpoint. None if it is unknown.

    Returns:
        The number of threads in use, if it differs from `saved`; otherwise None.
    """
    import torch

    now = torch.get_num_threads()
    if saved is None or saved == now:
        return None
    if _chosen is None or _chosen.fixed or saved > available_cores():
        return now
    torch.set_num_threads(saved)
    return None


def default_workers() -> int:
    """Return the default number of processes or threads that read images: one per available core, at most 8."""
    return min(8, available_cores())


def available_cores() -> int:
    """Return the number of cores that this process may use: by its affinity, its cgroups and its share of a bench.

    Example:
        >>> 1 <= available_cores() <= os.cpu_count()
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    if quota is not None:
        cores = min(cores, math.ceil(quota))
    share = _number(os.environ.get(SHARE))
    return max(1, cores if share is None else min(cores, share))


def users_limit() -> int | None:
    """Return the number in the `OMP_NUM_THREADS` that the user has set, or None."""
    global _users_limit
    value = os.environ.get("OMP_NUM_THREADS")
    if value is None or value != _ours:  # not the value that `prepare` wrote
        _users_limit = _number(value)
    return _users_limit


def cgroup_quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the CPU time per second that the control groups of this process allow, versions 1 and 2.

    Args:
        root: Mount point of the control groups.
        membership: File with the groups of this process.

    Returns:
        The smallest quota from the group of this process up to the root, in cores. None if there is none.
    """
    quotas = []
    for controllers, group in _groups(membership):
        mounts = [root, root / "unified"] if not controllers else [root / controllers, root / "cpu"]
        for folder in _upward(group):
            for mount in mounts:
                quotas += [_quota(mount / folder.lstrip("/"))]
    known = [quota for quota in quotas if quota is not None]
    return min(known, default=None)


def _automatic(cores: int) -> Threads:
    """Leave out the cores that other processes keep busy, but take at least a fair share."""
    busy = _busy_cores() * cores / (os.cpu_count() or cores)
    fair = math.ceil(cores / (1 + busy / cores) - 0.5)
    count = max(1, fair, cores - round(busy))
    return Threads(count, cores, "" if count == cores else "other processes are running")


def _busy_cores(path: Path = Path("/proc/loadavg")) -> float:
    """Return the number of cores that other processes use: those of the last minute that are still running."""
    try:
        minute, _, _, tasks = path.read_text("ascii").split()[:4]
        return min(float(minute), int(tasks.partition("/")[0]) - 1)
    except (OSError, ValueError):
        return 0.0


def _set_environment(count: int) -> None:
    global _ours
    if users_limit() != count:
        os.environ["OMP_NUM_THREADS"] = _ours = str(count)
    if not any(name in os.environ for name in WAIT_POLICIES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def environment(count: int, cores: int, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a worker process.

    Args:
        count: Number of threads of the worker.
        cores: Number of cores that it and its own processes share.
        given: Environment of this process.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    waiting = {} if any(name in given for name in WAIT_POLICIES) else {"OMP_WAIT_POLICY": "PASSIVE"}
    return {**given, **waiting, **dict.fromkeys(names, str(count)), SHARE: str(cores)}


def _groups(membership: Path) -> list[tuple[str, str]]:
    """Return the groups that can limit the CPU: controllers (empty for version 2) and path."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text("utf-8").splitlines()]
    except OSError:
        return []
    return [(line[1], line[2]) for line in lines if len(line) == 3 and (not line[1] or "cpu" in line[1].split(","))]


def _upward(group: str) -> list[str]:
    """Return a group and all groups above it. In a container only the root may exist, which is its own group."""
    path = Path("/", group.lstrip("/"))
    return [str(each) for each in (path, *path.parents)]


def _quota(folder: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text("ascii").strip() for name in names).split()
            if quota != "max" and int(quota) > 0:
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return None


def _number(text: str | None) -> int | None:
    """Return the first number of a value such as "4" or "4,2"; None if there is none above zero."""
    first = (text or "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None
