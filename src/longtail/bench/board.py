"""What a person sees of a bench: a live table in a terminal, a line per training where nobody watches."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Group
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from longtail._logging import console
from longtail.bench.formats import difference_text, summary_text
from longtail.bench.runner import Progress
from longtail.bench.table import Table, heading, summarize
from longtail.report.wording import DASH, several


class Board:
    """Shows a bench while it runs; a context manager.

    Args:
        progress: kept by the runner.
        rows: identities of the cells of each row of the table, by the words for the row.
    """

    def __init__(self, progress: Progress, rows: Mapping[str, Sequence[str]]) -> None:
        self._progress, self._rows = progress, rows
        self._tests = {identity: _scores(progress.folders[identity]) for identity in progress.known}
        self._live = Live(
            console=console, auto_refresh=False, transient=True, vertical_overflow="crop", get_renderable=self._picture
        )

    def __enter__(self) -> "Board":
        total = len(self._progress.jobs)
        left = self._progress.count("waiting")
        console.print(f"{several(total, 'training')}, {total - left} done before, {left} to do")
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, identity: str | None) -> None:
        """A job has ended; None: some time has passed.

        Args:
            identity: of the job.
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
        return f"{head}{_number(test.get('top1'))} all, {_number(test.get('few'))} few"

    def _picture(self) -> Group:
        """The whole board: what is done, what runs, and the means so far."""
        means = self._means()
        return Group(Text(self._summary()), self._running(), *([means] if means.row_count else []))

    def _summary(self) -> str:
        progress = self._progress
        spent = time.monotonic() - progress.started
        fresh = progress.count("done") - len(progress.known)
        left = progress.count("waiting") + progress.count("running") / 2
        guess = f", about {_duration(spent / fresh * left)} left" if fresh > 2 else ""
        failed = f", {progress.count('failed')} failed" if progress.count("failed") else ""
        running = f"{progress.count('running')} running" if progress.began else "processes start"
        return f"{progress.count('done')} of {len(progress.jobs)} done, {running}{failed}; {_duration(spent)}{guess}"

    def _running(self) -> RichTable:
        table = RichTable(box=None, show_header=False, padding=(0, 2))
        for identity, began in sorted(self._progress.began.items()):
            place = _place(self._progress.folders[identity])
            table.add_row(
                Text(self._progress.jobs[identity].cell.about), place, _duration(time.monotonic() - began), style="dim"
            )
        return table

    def _means(self) -> RichTable:
        table = RichTable(box=box.SIMPLE_HEAD)
        table.add_column("")
        for name in ("done", "all", "few"):
            table.add_column(name, justify="right")
        for row, identities in self._rows.items():
            tests = [self._tests[identity] for identity in identities if self._tests.get(identity)]
            if tests:
                means = [summarize([test.get(column) for test in tests]) for column in ("top1", "few")]
                shown = [_number(None if mean is None else mean.mean) for mean in means]
                table.add_row(Text(row), f"{len(tests)}/{len(identities)}", *shown)
        return table


def terminal_table(table: Table) -> RichTable:
    """The table for a terminal: means of the first four scores, and the difference; the files hold the rest.

    Args:
        table: of a plan.
    """
    shown = RichTable(box=box.SIMPLE_HEAD, title=table.title, title_justify="left", title_style="bold")
    shown.add_column("", overflow="fold")
    against = [] if table.reference is None else [f"all, less {table.reference}"]
    for name in ("n", *map(heading, table.columns[:4]), *against):
        shown.add_column(name, justify="right")
    for line in table.lines:
        first, *rest = (line.scores[column] for column in table.columns[:4])
        means = [summary_text(first), *(_number(None if score is None else score.mean) for score in rest)]
        scores = [
            Text(text, style="bold" if column in line.best else "")
            for column, text in zip(table.columns, means, strict=False)
        ]
        difference = [difference_text(line.against)] if against else []
        shown.add_row(Text(f"{line.name}{' †' if line.older else ''}"), str(line.n), *scores, *map(Text, difference))
    shown.caption, shown.caption_justify = "\n".join(table.notes), "left"
    return shown


def _scores(folder: Path) -> dict[str, Any]:
    """The scores of a finished run; none of another."""
    try:
        scores: dict[str, Any] = json.loads((folder / "result.json").read_text("utf-8"))["test"]
        return scores
    except (OSError, ValueError, KeyError):
        return {}


def _place(folder: Path) -> str:
    """How far a run has got, by the last line of its log."""
    try:
        row = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        return f"stage {row['stage'] + 1}, epoch {row['epoch'] + 1}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "beginning"


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
