"""Messages and progress bars on stderr.

On a terminal, progress is a live bar. Elsewhere it is a logged line every `LINE_EVERY` seconds.

The library logs through `logging.getLogger("longtail")` and is silent by default: `longtail/__init__.py` adds a null
handler. The command line prints the messages with `log_to_stderr`. Programs attach their own handler.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from longtail._streams import stderr

LINE_EVERY = 30.0
"""Seconds between two lines of progress where stderr is not a terminal."""

PLAIN: dict[str, bool] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
"""Options of consoles that print names and paths as they are."""

console = Console(file=cast(IO[str], stderr), stderr=True, **PLAIN)  # type: ignore[arg-type]
"""Console on stderr for messages and progress. Results go to stdout."""

logger = logging.getLogger("longtail")


class ConsoleHandler(logging.Handler):
    """Print log records above a running progress bar.

    Warnings start with "warning: " and errors with "error: "; other records are printed as they are.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record.

        Args:
            record: Record to print.
        """
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        console.print(f"{prefix}{record.getMessage()}")


@contextmanager
def log_to_stderr(level: int = logging.INFO) -> Iterator[None]:
    """Print the messages of the library on stderr while the context is open.

    Args:
        level: Lowest level to print. Default: `logging.INFO`.

    Example:
        >>> with log_to_stderr():
        ...     logging.getLogger("longtail").info("training ce on digits-lt")
    """
    handler, before, propagated = ConsoleHandler(level), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # the root logger would print a second time
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagated


class Bar:
    """Progress of one activity: a live bar on a terminal, and logged lines elsewhere."""

    def __init__(
        self, progress: Progress, description: str, total: int, start: int, images_per_unit: int, unit: str
    ) -> None:
        self._progress, self._total_known = progress, True
        self._images_per_unit, self._unit = images_per_unit, f"{unit} " if unit else ""
        self._task = progress.add_task(description, total=total, note="", images_per_unit=images_per_unit)
        self._progress.advance(self._task, start)
        self._first = self._last = (time.monotonic(), start)

    def advance(self, count: int = 1) -> None:
        """Advance the bar.

        Args:
            count: Number of units done.
        """
        self._progress.advance(self._task, count)
        self._log_line()

    def note(self, text: str) -> None:
        """Show a short text next to the bar, such as the epoch and the loss.

        Args:
            text: Text, without markup.
        """
        self._progress.update(self._task, note=text)

    def moved_to(self, done: int, total: int | None) -> None:
        """Set the units done and the total. Downloads and decoders take this method as their callback.

        Args:
            done: Number of units done.
            total: Total number of units; None if unknown.
        """
        self._total_known = total is not None
        self._progress.update(self._task, completed=done, total=total)
        self._log_line()

    def close(self) -> None:
        """Remove the bar from the display."""
        self._progress.remove_task(self._task)

    def _log_line(self) -> None:
        """Log the progress if stderr is not a terminal and the last line is `LINE_EVERY` seconds old."""
        if not self._progress.disable or (now := time.monotonic()) - self._last[0] < LINE_EVERY:
            return
        task = next(task for task in self._progress.tasks if task.id == self._task)
        done, total = int(task.completed), int(task.total) if self._total_known and task.total is not None else None
        share = "" if total is None else f" of {total:,} ({100 * done / max(1, total):.0f} %)"
        note = task.fields["note"].replace("  ", ", ")
        parts = [*([note] if note else []), f"{self._unit}{done:,}{share}"]
        if self._images_per_unit:
            images = (done - self._last[1]) * self._images_per_unit
            parts.append(_rate(images / (now - self._last[0])))
        if total is not None and done > self._first[1]:
            per_unit = (now - self._first[0]) / (done - self._first[1])
            parts.append(f"expected end {_clock((total - done) * per_unit)}")
        logger.info("%s: %s", task.description, ", ".join(parts))
        self._last = (now, done)


class _RateColumn(ProgressColumn):
    """Images per second, for bars that know the images of one unit."""

    def render(self, task: Task) -> Text:
        """Return the rate, or nothing as long as it is unknown."""
        images = (task.speed or 0.0) * task.fields["images_per_unit"]
        return Text(_rate(images) if images else "")


def _rate(images: float) -> str:
    return f"{images:,.{0 if images >= 10 else 1}f} images/s"


def _clock(seconds: float) -> str:
    """Return the local time after a number of seconds, with the date if it is another day."""
    now, then = time.time(), time.time() + seconds
    same_day = time.localtime(now)[:3] == time.localtime(then)[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M", time.localtime(then))


_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)  # a terminal has one live display at a time


@contextmanager
def progress_bar(
    description: str, total: int, start: int = 0, *, images_per_unit: int = 0, unit: str = ""
) -> Iterator[Bar]:
    """Show a live bar: description, share, count, note, images per second, elapsed time and remaining time.

    Where stderr is not a terminal, log a line every 30 s instead, with the expected end; none if all is done before.
    A bar within another one is shown below it.

    Args:
        description: What is being done, such as "training".
        total: Number of units: steps, images or bytes.
        start: Number of units already done. Default: 0.
        images_per_unit: Images of one unit, to show images per second. Default: 0, which shows no rate.
        unit: Word before the count in logged lines, such as "step".

    Example:
        >>> with progress_bar("reading", total=2) as bar:
        ...     bar.advance()
    """
    outer = _shown.get()
    if outer is not None:
        bar = Bar(outer, description, total, start, images_per_unit, unit)
        try:
            yield bar
        finally:
            bar.close()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        _RateColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        token = _shown.set(progress)
        try:
            yield Bar(progress, description, total, start, images_per_unit, unit)
        finally:
            _shown.reset(token)
