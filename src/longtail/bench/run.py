"""A plan from its cells to its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from longtail._io import write_text
from longtail.bench.board import Board
from longtail.bench.cells import Cell, cells_of, jobs_for
from longtail.bench.formats import FILES, csv_table, latex, markdown
from longtail.bench.limits import Budget
from longtail.bench.page import page
from longtail.bench.plan import MethodEntry, Plan
from longtail.bench.results import Row, older_cells, outcome_of
from longtail.bench.runner import Runner
from longtail.bench.table import Table, tables_of
from longtail.errors import InputError, unknown_name

RowCells = Mapping[tuple[str, str], tuple[MethodEntry, Sequence[Cell]]]
"""By the words for data and row: the entry, and a cell for each seed."""


def rows_of(plan: Plan) -> RowCells:
    """The cells of a plan, row by row.

    Args:
        plan: what is to be compared.

    Raises:
        InputError: for data that can not be read, or a method that can not be run on them.
    """
    rows: dict[tuple[str, str], tuple[MethodEntry, list[Cell]]] = {}
    for data, entry, cell in cells_of(plan):
        factor = cell.config.data.imbalance_factor
        words = f"{data.name}{f' IF {factor:g}' if factor else ''}"
        rows.setdefault((words, entry.name), (entry, []))[1].append(cell)
    return rows


def train_rows(
    rows: RowCells, out: Path, limits: Budget, command: str = "", keep_old: bool = False
) -> Mapping[str, str]:
    """Train what is not done yet.

    Args:
        rows: as `rows_of` gives them.
        out: folder of the bench.
        limits: what may be used at once.
        command: what the user typed, for the results.
        keep_old: results of an older version of the code will do.

    Returns:
        Why, of those cells that failed, by the words for the cell.

    Raises:
        InputError: if another bench uses the folder.
        KeyboardInterrupt: on Ctrl-C, once the states are saved.
    """
    cells = [cell for _, each in rows.values() for cell in each]
    older = older_cells(out) if keep_old else {}
    keep = frozenset(cell.identity for cell in cells if keep_old and outcome_of(cell, out, older) is not None)
    runner = Runner(jobs_for(cells), out, limits, command, keep)
    shown = {
        " ".join((name, "on", words)): [cell.identity for cell in each] for (words, name), (_, each) in rows.items()
    }
    with Board(runner.progress, shown) as board:
        runner.run(board.tell)
    jobs = runner.progress.jobs
    return {jobs[identity].cell.about: why for identity, why in runner.progress.failures.items()}


def tables(plan: Plan, rows: RowCells, out: Path, keep_old: bool = False) -> list[Table]:
    """The tables of a plan from what is finished.

    Args:
        plan: what is to be compared.
        rows: as `rows_of` gives them.
        out: folder of the bench.
        keep_old: results of an older version of the code will do; they are marked.

    Raises:
        InputError: if nothing is finished.
    """
    older = older_cells(out) if keep_old else {}
    found: dict[str, list[Row]] = {}
    for (words, name), (entry, cells) in rows.items():
        outcomes = {cell.config.seed: outcome_of(cell, out, older) for cell in cells}
        done = {seed: outcome for seed, outcome in outcomes.items() if outcome is not None}
        missing = tuple(seed for seed in outcomes if seed not in done)
        found.setdefault(words, []).append(Row(name, done, missing, entry.published))
    notes = [f"settings of all methods: {_in_words(change)}" for change in plan.changes]
    built = [table for each in found.values() for table in tables_of(each, plan.columns, plan.reference, notes)]
    if not built:
        raise InputError(
            f"nothing of the plan {plan.name} is finished in {out} by this version of the code; run it first"
        )
    return built


def write_tables(built: Sequence[Table], plan: Plan, out: Path, formats: Sequence[str] = tuple(FILES)) -> list[Path]:
    """Write the tables, each format whole or not at all.

    Args:
        built: of the plan.
        plan: whose tables they are.
        out: folder of the bench; they go into a folder there that is called after the plan.
        formats: "md", "tex", "csv", "html".

    Raises:
        InputError: for an unknown format, or if a file can not be written.
    """
    texts = {
        "md": lambda: markdown(built, plan.name, plan.about),
        "tex": lambda: latex(built, plan.name),
        "csv": lambda: csv_table(built),
        "html": lambda: page(built, plan.name, plan.about),
    }
    paths = []
    for name in formats:
        if name not in texts:
            raise unknown_name("format", name, texts)
        path = out / plan.name / FILES[name]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, texts[name]())
        except OSError as error:
            raise InputError(f"can not write {path}: {error.strerror or error}; choose another --out") from error
        paths.append(path)
    return paths


def _in_words(change: Mapping[str, object], prefix: str = "") -> str:
    """A change as "training.epochs=24"."""
    parts = []
    for key, value in change.items():
        if key == "set" and isinstance(value, list):
            parts += [f"{path}={setting}" for path, setting in value]
        elif isinstance(value, Mapping):
            parts.append(_in_words(value, f"{prefix}{key}."))
        else:
            parts.append(f"{prefix}{key}={value}")
    return ", ".join(parts)
