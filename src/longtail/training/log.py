"""Log of a run: one row per epoch in `log.jsonl`, and in TensorBoard or W&B on request."""

import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from longtail._io import WriteError, append_text, write_text
from longtail.errors import InputError, unknown_name

logger = logging.getLogger("longtail")

LOGGERS = ("tensorboard", "wandb")


class Sink(Protocol):
    """Additional destination of the rows."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the metrics of one epoch."""


class RunLog:
    """Log of a run.

    Args:
        path: Path of `log.jsonl`.
        keep: Existing rows before this (stage, epoch) are kept. Later ones are dropped, because a resumed run writes
            them again.
        loggers: Names of additional sinks, checked by `check_loggers`.
        config: Configuration that the sinks show.
    """

    def __init__(
        self,
        path: Path,
        keep: tuple[int, int] = (0, 0),
        loggers: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.rows = [row for row in read_rows(path) if (row["stage"], row["epoch"]) < keep]
        self._sinks = [_sink(name, path.parent, config or {}) for name in loggers]
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row. Nested metrics reach the sinks as "val/top1". A sink that fails is dropped with a warning.

        Raises:
            WriteError: If the row cannot be written. The training continues from the last checkpoint.
        """
        self.rows.append(dict(row))
        try:
            append_text(self.path, json.dumps(row) + "\n")
        except WriteError as error:
            raise WriteError(f"{error}; then resume the run from its last checkpoint") from error
        numbers = {key: value for key, value in _flat(row).items() if key not in ("stage", "epoch")}
        for sink in list(self._sinks):
            try:
                sink.write(len(self.rows), numbers)
            except Exception as error:
                logger.warning("%s is no longer written: %s", type(sink).__name__.strip("_"), error)
                self._sinks.remove(sink)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a `log.jsonl`, or none if there is no file. A last line cut short by a kill is dropped.

    Raises:
        InputError: If another line is damaged, with its number.
    """
    if not path.exists():
        return []
    *lines, unfinished = path.read_bytes().split(b"\n")
    del unfinished
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not all(type(row.get(key)) is int for key in ("stage", "epoch")):
        raise InputError(f"line {number} of {path} is not a row of a training log; remove the line, or start a new run")
    return row


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, (int, float)):
            flat[prefix + key] = value
    return flat


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()


class _WandB:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project="longtail", name=folder.name, dir=str(folder), config=dict(config))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)


def check_loggers(names: Sequence[str]) -> None:
    """Check that every logger can be used.

    Raises:
        InputError: For an unknown logger (with the nearest one), or one that is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown_name("logger", name, LOGGERS)
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(f"{name} is not installed; install it with: pip install 'longtail[{name}]'") from error


def _sink(name: str, folder: Path, config: Mapping[str, Any]) -> Sink:
    return _TensorBoard(folder) if name == "tensorboard" else _WandB(folder, config)
