"""Log of a run: one row per epoch in `log.jsonl`, and in experiment trackers on request."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from longtail._io import WriteError, append_text, write_text
from longtail.errors import InputError
from longtail.training.sinks import Sink, flat, make_sink

logger = logging.getLogger("longtail")


class RunLog:
    """Log of a run. As a context manager it closes the sinks, also after an error.

    Args:
        path: Path of `log.jsonl`.
        keep: Existing rows before this (stage, epoch) are kept. Later ones are dropped, because a resumed run writes
            them again.
        loggers: Additional sinks, or their names, checked by `check_loggers`.
        config: Configuration that the sinks show.
    """

    def __init__(
        self,
        path: Path,
        keep: tuple[int, int] = (0, 0),
        loggers: Sequence[str | Sink] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.rows = [row for row in read_rows(path) if (row["stage"], row["epoch"]) < keep]
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))
        self._sinks = [make_sink(logger) for logger in loggers]
        self._send(lambda sink: sink.start(config or {}, path.parent))

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
        numbers = {key: value for key, value in flat(row).items() if key not in ("stage", "epoch")}
        self._send(lambda sink: sink.log(numbers, len(self.rows)))

    def finish(self, result: Mapping[str, Any] | None, report: Path | None = None) -> None:
        """Close the sinks. Later calls have no effect.

        Args:
            result: Content of `result.json`, or None if the run did not finish.
            report: Path of `report.html`, if it was written.
        """
        self._send(lambda sink: sink.finish(result, report))
        self._sinks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(None)

    def _send(self, call: Callable[[Sink], None]) -> None:
        """Call a method of every sink. A sink that fails is dropped with a warning."""
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:
                logger.warning("%s is no longer written: %s", type(sink).__name__, error)
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
