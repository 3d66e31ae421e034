"""Where results go."""

import os
import sys
from pathlib import Path

from rich.console import Console

from longtail.errors import InputError

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
"""Results: stdout; in a file or a pipe, wide enough for the tables."""


def refuse_unwritable(output: Path) -> None:
    """Refuse before the work, not after it, a place that can not be written.

    Raises:
        InputError: if it is a folder, or its folder can not be written into.
    """
    folder = output.parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = (
            "is a folder" if output.is_dir() else f"can not be written: {folder} is no folder that one may write to"
        )
        raise InputError(f"{output} {problem}; give the path of a file to write")
