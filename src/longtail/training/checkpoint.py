"""Durable checkpoints: written next to the last one, flushed to disk, then renamed over it.

A checkpoint is a mapping of tensors and plain values. It loads with `weights_only=True`, so no code is unpickled.
Within a stage, checkpoints are serialized and written by a thread from a copy of the state, during the training.
"""

import copy
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from longtail._io import atomic_write
from longtail.errors import InputError, first_line

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "stage": int, "epoch": int, "step": int, "images": int, "image_size": int, "seconds": (int, float), "split": str,
    "model": dict, "chosen": dict, "compute": dict, "class_names": list,
    "threads": (int, type(None)),
}  # fmt: skip
_REMEDY = "start a new run in another folder"
_MISFITS = (RuntimeError, KeyError, TypeError, ValueError, AttributeError, IndexError)


class SavedState(dict[str, Any]):
    """Content of a checkpoint. A value that it lacks is an `InputError` with the name of the file.

    Args:
        content: Tensors and plain values by name.
        path: File of the checkpoint.
    """

    def __init__(self, content: Mapping[str, Any], path: Path) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise InputError(f"the checkpoint {self.path} lacks {key!r}, so it is not of this run; {_REMEDY}")


@contextmanager
def applying(saved: Mapping[str, Any]) -> Iterator[None]:
    """Name the checkpoint in an error of a block that applies its content to a model or a stage.

    Args:
        saved: Content of the checkpoint.

    Raises:
        InputError: If the content does not fit, for example because it is of another model.
    """
    place = str(getattr(saved, "path", ""))
    try:
        yield
    except _MISFITS as error:  # InputError is a ValueError
        if isinstance(error, InputError) and place in str(error):
            raise
        lines = [line.strip() for line in str(error).splitlines()[:2]] or [type(error).__name__]
        raise InputError(f"the checkpoint {place} does not fit the run: {' '.join(lines)}; {_REMEDY}") from error


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
            except Exception as error:  # the bytes of a damaged pickle lead to errors of any kind
                damaged.append(f"{path}: {first_line(error)}")
                continue
            problem = _problem(state)
            if problem is None:
                return SavedState(state, path)
            damaged.append(f"{path}: {problem}")
        if damaged:
            raise InputError("no checkpoint of this run can be read:\n  " + "\n  ".join(damaged) + f"\n{_REMEDY}")
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
        copied = copy.copy(value)
        copied.update((key, snapshot(item)) for key, item in value.items())
        return copied
    if isinstance(value, (list, tuple)):
        return type(value)(snapshot(item) for item in value)
    return value


def _problem(state: Any) -> str | None:
    """Return why an object cannot be the state of a run, or None if it can."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}, not the state of a run"
    for key, kind in _KINDS.items():
        value = state.get(key)
        is_bad = key in state and (not isinstance(value, kind) or isinstance(value, bool))
        if is_bad or (isinstance(value, (int, float)) and value < 0):
            return f"its {key!r} is {str(value)[:50]!r}, not that of a run"
    for recorded in state.get("compute", {}).values():
        if not isinstance(recorded, dict) or recorded.get("precision", "fp32") not in ("fp32", "bf16", "fp16"):
            return f"its 'compute' has {str(recorded)[:50]!r}, not the precision of a stage"
    names = state.get("class_names", [])
    return None if all(isinstance(name, str) for name in names) else "its 'class_names' are not all text"
