"""What a person sees while a command runs: messages and progress bars on stderr, quiet where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False, soft_wrap=True)
"""Messages and progress; results go to stdout."""


class Bar:
    """A progress bar that one can advance; does nothing where stderr is no terminal."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, note="")

    def advance(self, count: int = 1) -> None:
        """Move on by `count` of the total."""
        self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        """Show a short text beside the bar: the epoch, the loss."""
        self._progress.update(self._task, note=text)

    def moved_to(self, done: int, total: int | None) -> None:
        """Set the place and the total, where it is known: the callback that downloads and decoders take."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bar(description: str, total: int, start: int = 0) -> Iterator[Bar]:
    """A live bar: description, share, count, a note, time spent and time left.

    Args:
        description: what is being done.
        total: steps, images or bytes.
        start: how many are done already.

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
