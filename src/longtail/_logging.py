"""Messages and progress bars on stderr.

The library logs through `logging.getLogger("longtail")` and is silent by default: `longtail/__init__.py` adds a null
handler. The command line prints the messages with `log_to_stderr`. Programs attach their own handler.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN: dict[str, bool] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
"""Options of consoles that print names and paths as they are."""

console = Console(stderr=True, **PLAIN)  # type: ignore[arg-type]
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
    """Progress bar. It shows nothing if stderr is not a terminal."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, count: int = 1) -> None:
        """Advance the bar.

        Args:
            count: Number of units done.
        """
        self._progress.advance(self._task, count)

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
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bar(description: str, total: int, start: int = 0) -> Iterator[Bar]:
    """Show a live bar: description, share, count, note, elapsed time and remaining time.

    Args:
        description: What is being done, such as "training".
        total: Number of units: steps, images or bytes.
        start: Number of units already done. Default: 0.

    Example:
        >>> with progress_bar("reading", total=2) as bar:
        ...     bar.advance()
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = Bar(progress, description, total)
        bar.advance(start)
        yield bar
