"""Durable checkpoints: written next to the last one, flushed to disk, then renamed over it.

A checkpoint is a mapping of tensors and plain values. It loads with `weights_only=True`, so no code is unpickled.
Within a stage, checkpoints are serialized and written by a thread from a copy of the state, during the training.
"""

import pickle
import time
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._writer = ThreadPoolExecutor(1, "checkpoint")  # the interpreter waits for it before it ends
        self._pending: Future[None] | None = None
        self._saved_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last checkpoint, or since the store was made."""
        return time.monotonic() - self._saved_at

    def save(self, state: dict[str, Any]) -> None:
        """Make `state` the last checkpoint. If the disk is full, the last good one is kept.

        Raises:
            InputError: If this or the previous checkpoint cannot be written, with the reason and what is kept.
        """
        self.wait()
        self._write(state)
        self._saved_at = time.monotonic()

    def save_in_background(self, state: dict[str, Any]) -> None:
        """Make a copy of `state` the last checkpoint, without waiting until it is written.

        Raises:
            InputError: If the previous checkpoint could not be written.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, snapshot(state))
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until the last checkpoint is written.

        Raises:
            InputError: If it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, state: dict[str, Any]) -> None:
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


def snapshot(value: Any) -> Any:
    """Return a copy of nested mappings and lists whose tensors are copies on the CPU.

    Example:
        >>> state = {"weights": [torch.zeros(1)], "epoch": 3}
        >>> copied = snapshot(state)
        >>> _ = state["weights"][0].fill_(1.0)
        >>> copied
        {'weights': [tensor([0.])], 'epoch': 3}
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return type(value)((key, snapshot(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value)(snapshot(item) for item in value)
    return value
