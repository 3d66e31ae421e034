"""Number of trainings at once, found by measuring how many a bench finishes per minute."""

from collections.abc import Mapping
from pathlib import Path

from longtail.bench.budget import Budget
from longtail.bench.cells import Job, epochs_of

WINDOW_S = 20.0
"""Shortest time in seconds over which the speed of a bench is measured."""
WINDOW_EPOCHS = 10
"""Smallest number of epochs per running training in that time."""
GAIN = 1.05
"""Speed-up that makes another number of trainings at once better."""


class Adaptive:
    """Number of trainings at once, adapted to the speed that was measured.

    The number rises by half as long as the bench gets faster. If the first step brings nothing, it falls instead. The
    best number is then kept.

    Args:
        limits: First, smallest and largest number.

    Example:
        >>> from longtail.bench.budget import budget
        >>> Adaptive(budget(jobs=2, memory_gb=8.0)).now
        2
    """

    def __init__(self, limits: Budget) -> None:
        self.now = limits.jobs
        self.speeds: dict[int, float] = {}
        self._fewest, self._most = limits.fewest, limits.most
        self._settled = limits.fewest >= limits.most
        self._window: tuple[float, float, int] | None = None

    def observe(self, now: float, done: float, epochs: int, running: int) -> bool:
        """Take the state of the bench into account.

        Args:
            now: Time in seconds.
            done: Trainings done so far, with the done shares of the running ones.
            epochs: Epochs done so far.
            running: Number of trainings that are running.

        Returns:
            True if the number of trainings at once has changed.
        """
        if self._settled or running != self.now:  # processes are still starting, or the last trainings are running
            self._window = None
            return False
        if self._window is None:
            self._window = (now, done, epochs)
            return False
        start, before, counted = self._window
        if now - start < WINDOW_S or epochs - counted < WINDOW_EPOCHS * self.now:
            return False
        self.speeds[self.now] = 60 * (done - before) / (now - start)
        self._window = None
        return self._move()

    def out_of_memory(self) -> None:
        """Lower the number for good, because the memory of the accelerator does not suffice."""
        self._most = max(1, self.now - 1)
        self._settle(self._most)

    def _move(self) -> bool:
        tried = list(self.speeds)
        before = tried[-2] if len(tried) > 1 else None
        gained = before is None or self.speeds[self.now] > GAIN * self.speeds[before]
        rising = before is None or self.now > before
        if gained and (further := self._further(self.now, rising)):
            return self._go(further)
        if len(tried) == 1 or (len(tried) == 2 and not gained and rising):
            start = tried[0]
            if further := self._further(start, rising=False):
                return self._go(further)
        best = max(self.speeds, key=lambda jobs: self.speeds[jobs])
        return self._settle(best)

    def _further(self, jobs: int, rising: bool) -> int | None:
        """Return the next number in a direction, or None at its end."""
        step = max(1, jobs // 2)
        found = min(self._most, jobs + step) if rising else max(self._fewest, jobs - max(1, jobs // 4))
        return None if found in self.speeds else found

    def _go(self, jobs: int) -> bool:
        self.now = jobs
        return True

    def _settle(self, jobs: int) -> bool:
        changed = jobs != self.now
        self.now, self._settled = jobs, True
        return changed


class Meter:
    """Progress of the trainings that a bench has started, in trainings and in epochs.

    Args:
        jobs: All jobs by identity.
        folders: Folder of each job's run.
    """

    def __init__(self, jobs: Mapping[str, Job], folders: Mapping[str, Path]) -> None:
        self._jobs, self._folders = jobs, folders
        self._before: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self._finished: set[str] = set()

    def begin(self, identity: str) -> None:
        """Start to count a training. Epochs of an earlier bench do not count."""
        self._before[identity] = _logged(self._folders[identity])
        self._epochs[identity] = 0

    def end(self, identity: str) -> None:
        """Count a training as done."""
        self._count(identity)
        self._finished.add(identity)

    def read(self) -> tuple[float, int]:
        """Return the trainings done, with the done shares of the running ones, and the epochs done."""
        for identity in self._epochs.keys() - self._finished:
            self._count(identity)
        shares = [1.0 if each in self._finished else self._share(each) for each in self._epochs]
        return sum(shares), sum(self._epochs.values())

    def _count(self, identity: str) -> None:
        self._epochs[identity] = max(0, _logged(self._folders[identity]) - self._before[identity])

    def _share(self, identity: str) -> float:
        job = self._jobs[identity]
        start = None if job.start is None else self._jobs[job.start].cell
        return min(1.0, self._epochs[identity] / epochs_of(job.cell, start))


def _logged(folder: Path) -> int:
    try:
        return (folder / "log.jsonl").read_bytes().count(b"\n")
    except OSError:
        return 0
