"""Checkpoints that survive: written beside the last one, flushed to the disk, then renamed over it.

A checkpoint is a mapping of tensors and plain values, so it loads with `weights_only=True`: no code is unpickled.
"""

import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from longtail.errors import InputError


class CheckpointStore:
    """The checkpoints of one run: the last, and the one before it in case the last is damaged.

    Args:
        folder: where they lie; made when the first is written.

    Example:
        >>> import tempfile
        >>> store = CheckpointStore(Path(tempfile.mkdtemp()))
        >>> store.save({"epoch": 3, "weight": torch.ones(2)})
        >>> store.load()["epoch"]
        3
    """

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.pt"
        self.previous = folder / "previous.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the last checkpoint. If the disk is full, the last good one stays.

        Raises:
            InputError: if it can not be written, naming the reason and what still stands.
        """
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.last, keep=self.previous) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch reports some write errors as RuntimeError
            kept = "the last good checkpoint is kept" if self.last.exists() else "there is no earlier checkpoint"
            raise InputError(
                f"can not write the checkpoint {self.last}: {error}; {kept}. Free some space, then go on with --resume"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint that can be read; None where there is none.

        Raises:
            InputError: if there are checkpoints and none can be read.
        """
        damaged = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
                damaged.append(f"{path}: {str(error).splitlines()[0]}")
        if damaged:
            raise InputError(
                "no checkpoint of this run can be read:\n  " + "\n  ".join(damaged) + "\nstart again in another folder"
            )
        return None


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` only once it is whole and on the disk.

    Args:
        path: to be written; a reader sees the old content or the new, never a part.
        keep: where the old content goes; by default nowhere.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
