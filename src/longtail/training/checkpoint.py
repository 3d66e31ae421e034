"""Durable checkpoints: written next to the last one, flushed to disk, then renamed over it.

A checkpoint is a mapping of tensors and plain values. It loads with `weights_only=True`, so no code is unpickled.
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from longtail._io import atomic_write
from longtail.errors import InputError


class CheckpointStore:
    """Checkpoints of one run: the last one, and the one before it in case the last is damaged.

    Args:
        folder: Folder of the checkpoints. It is created with the first one.

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
        """Make `state` the last checkpoint. If the disk is full, the last good one is kept.

        Raises:
            InputError: If the checkpoint cannot be written, with the reason and what is kept.
        """
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self.last, keep=self.previous) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch reports some write errors as RuntimeError
            kept = "the last good checkpoint is kept" if self.last.exists() else "there is no earlier checkpoint"
            raise InputError(
                f"cannot write the checkpoint {self.last}: {error}; {kept}. Free some space, then resume the run"
            ) from error

    def load(self) -> dict[str, Any] | None:
        """Return the last checkpoint that can be read, or None if there is none.

        Raises:
            InputError: If there are checkpoints and none can be read.
        """
        damaged = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
                damaged.append(f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}")
                continue
            if isinstance(state, dict):
                return state
            damaged.append(f"{path}: it holds a {type(state).__name__}, not the state of a run")
        if damaged:
            raise InputError(
                "no checkpoint of this run can be read:\n  "
                + "\n  ".join(damaged)
                + "\nstart a new run in another folder"
            )
        return None
