"""Progress and results of a bench in the terminal."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from longtail._logging import console
from longtail.bench.formats import difference_text, summary_text
from longtail.bench.runner import Progress
from longtail.bench.table import Line, Table, heading, summarize
from longtail.report import tables as layout
from longtail.report.wording import number, several


class LiveProgress:
    """Progress of a bench: a live table in a terminal, one line per finished training elsewhere. A context manager.

    Args:
        progress: State that the runner updates.
        rows: Identities of the cells of each row, by the description of the row.
    """

    def __init__(self, progress: Progress, rows: Mapping[str, Sequence[str]]) -> None:
        self._progress, self._rows = progress, rows
        self._tests = {identity: _scores(progress.folders[identity]) for identity in progress.known}
        self._live = Live(
            console=console, auto_refresh=False, transient=True, vertical_overflow="crop", get_renderable=self._render
        )

    def __enter__(self) -> "LiveProgress":
        total = len(self._progress.jobs)
        left = self._progress.count("waiting")
        console.print(f"{several(total, 'training')}: {total - left} finished before, {left} to run")
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, identity: str | None) -> None:
        """Show that a job has ended.

        Args:
            identity: Identity of the job; None only refreshes the elapsed time.
        """
        if identity is not None:
            self._tests[identity] = _scores(self._progress.folders[identity])
            if not console.is_terminal or identity in self._progress.failures:
                console.print(self._line(identity), markup=False)
        if console.is_terminal:
            self._live.refresh()

    def _line(self, identity: str) -> str:
        progress, test = self._progress, self._tests[identity]
        ended = progress.count("done") + progress.count("failed")
        head = f"[{ended:>{len(str(len(progress.jobs)))}}/{len(progress.jobs)}] {progress.jobs[identity].cell.about}: "
        if identity in progress.failures:
            return f"{head}failed: {progress.failures[identity]}"
        return f"{head}{number(test.get('top1'))} all, {number(test.get('few'))} few"

    def _render(self) -> Group:
        """Return the summary, the running trainings and the means so far."""
        means = self._means()
        return Group(Text(self._summary()), self._running(), *([means] if means.rows else []))

    def _summary(self) -> str:
        progress = self._progress
        spent = time.monotonic() - progress.started
        fresh = progress.count("done") - len(progress.known)
        left = progress.count("waiting") + progress.count("running") / 2
        guess = f", about {_format_duration(spent / fresh * left)} left" if fresh > 2 else ""
        failed = f", {progress.count('failed')} failed" if progress.count("failed") else ""
        running = f"{progress.count('running')} running" if progress.began else "starting processes"
        done = f"{progress.count('done')} of {len(progress.jobs)} done"
        return f"{done}, {running}{failed}; {_format_duration(spent)}{guess}"

    def _running(self) -> RichTable:
        table = RichTable(box=None, show_header=False, padding=(0, 2))
        for identity, began in sorted(self._progress.began.items()):
            about = Text(self._progress.jobs[identity].cell.about)
            elapsed = _format_duration(time.monotonic() - began)
            table.add_row(about, _position(self._progress.folders[identity]), elapsed, style="dim")
        return table

    def _means(self) -> layout.Table:
        rows = []
        for row, identities in self._rows.items():
            tests = [self._tests[identity] for identity in identities if self._tests.get(identity)]
            if tests:
                means = [summarize([test.get(column) for test in tests]) for column in ("top1", "few")]
                shown = [number(None if mean is None else mean.mean) for mean in means]
                rows.append([row, f"{len(tests)}/{len(identities)}", *shown])
        return layout.Table(
            [layout.Column(""), *(layout.Column(name, "right") for name in ("done", "all", "few"))], rows
        )


def terminal_table(table: Table) -> layout.Table:
    """Return a table for the terminal: means of the first four scores, and the difference to the reference.

    Args:
        table: Table of a plan.
    """
    against = [] if table.reference is None else [f"all, less {table.reference}"]
    columns = [layout.Column(name, "right") for name in ("n", *map(heading, table.columns[:4]), *against)]
    return layout.Table(
        [layout.Column(""), *columns], [_row(table, line) for line in table.lines], table.title, table.notes
    )


def _row(table: Table, line: Line) -> list[layout.Cell | str]:
    first, *rest = (line.scores[column] for column in table.columns[:4])
    means = [summary_text(first), *(number(None if score is None else score.mean) for score in rest)]
    scores = [layout.Cell(text, bold=column in line.best) for column, text in zip(table.columns, means, strict=False)]
    difference = [] if table.reference is None else [difference_text(line.against)]
    return [f"{line.name}{' †' if line.older else ''}", str(line.n), *scores, *difference]


def _scores(folder: Path) -> dict[str, Any]:
    """Return the scores of a finished run; empty if it is not finished."""
    try:
        scores: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))["test"]
        return scores
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _position(folder: Path) -> str:
    """Return stage and epoch of a run, from the last line of its log."""
    try:
        row = json.loads((folder / "log.jsonl").read_text("utf-8").splitlines()[-1])
        return f"stage {row['stage'] + 1}, epoch {row['epoch'] + 1}"
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError):
        return "starting"


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
