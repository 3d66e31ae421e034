"""Checkpoints that survive: written beside the last one, flushed to the disk, then renamed over it.

A checkpoint is a mapping of tensors and plain values, so it loads with `weights_only=True`: no code is unpickled.
"""

import pickle
from pathlib import Path
from typing import Any

import torch

from longtail._io import atomic_write
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
            with atomic_write(self.last, keep=self.previous) as file:
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
