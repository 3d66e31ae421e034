"""Results on stdout, and checks of the places where results are written."""

import os
import sys
from pathlib import Path
from typing import IO, cast

from rich.console import Console

from longtail._io import is_stream
from longtail._logging import PLAIN, console
from longtail._streams import stdout
from longtail.errors import InputError

__all__ = ["console", "out", "require_writable"]


class Output(Console):
    """Console on stdout, whose reader may close it early, as in `longtail list | head`."""

    def on_broken_pipe(self) -> None:
        """Let the command line end with exit code 0; rich would exit with 1."""
        raise BrokenPipeError


_width = None if sys.stdout is not None and sys.stdout.isatty() else 120
out = Output(file=cast(IO[str], stdout), width=_width, **PLAIN)  # type: ignore[arg-type]
"""Console for results on stdout. In a file or pipe, lines are wide enough for the tables."""


def require_writable(output: Path) -> None:
    """Check before the work that a file can be written.

    Args:
        output: File to write.

    Raises:
        InputError: If it is a folder, or its folder does not exist or is not writable.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder; give the path of a file")
    if is_stream(output):
        return
    folder = Path(os.path.realpath(output)).parent  # a link is followed
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{output} cannot be written: {folder} is not a writable folder; give another path")
