"""From a plan to its tables: expand the cells, train them, build the tables and write them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from longtail._io import write_text
from longtail.bench.board import LiveProgress
from longtail.bench.budget import Budget
from longtail.bench.cells import Cell, cells_of, jobs_for
from longtail.bench.formats import FILES, csv_table, latex, markdown
from longtail.bench.page import page
from longtail.bench.plan import MethodEntry, Plan
from longtail.bench.results import Row, finished_run, older_cells
from longtail.bench.runner import Runner
from longtail.bench.table import Table, tables_of
from longtail.errors import InputError, naming, unknown_name

RowCells = Mapping[tuple[str, str], tuple[MethodEntry, Sequence[Cell]]]
"""Entry and one cell per seed, by the texts for data and row."""


def rows_of(plan: Plan) -> RowCells:
    """Return the cells of a plan, grouped by row.

    Args:
        plan: Plan to expand.

    Raises:
        InputError: If data cannot be read, or a method cannot run on them.
    """
    rows: dict[tuple[str, str], tuple[MethodEntry, list[Cell]]] = {}
    with naming(f"the plan {plan.name}"):
        for data, entry, cell in cells_of(plan):
            factor = cell.config.data.imbalance_factor
            label = f"{data.name}{f' IF {factor:g}' if factor else ''}"
            rows.setdefault((label, entry.name), (entry, []))[1].append(cell)
    return rows


def train_rows(
    rows: RowCells, out: Path, limits: Budget, command: str = "", keep_old: bool = False
) -> Mapping[str, str]:
    """Train the cells that are not finished.

    Args:
        rows: Rows from `rows_of`.
        out: Folder of the bench.
        limits: Limits of cores and memory.
        command: Command line, for the results.
        keep_old: Accept results of an older version of the code.

    Returns:
        Reason of each failed cell, by the text for the cell.

    Raises:
        InputError: If another bench uses the folder.
        KeyboardInterrupt: On Ctrl-C, after the states are saved.
    """
    cells = [cell for _, each in rows.values() for cell in each]
    older = older_cells(out) if keep_old else {}
    keep = frozenset(cell.identity for cell in cells if keep_old and finished_run(cell, out, older) is not None)
    runner = Runner(jobs_for(cells), out, limits, command, keep)
    shown = {f"{name} on {label}": [cell.identity for cell in each] for (label, name), (_, each) in rows.items()}
    with LiveProgress(runner.progress, shown) as live:
        runner.run(live.update)
    jobs = runner.progress.jobs
    return {jobs[identity].cell.about: reason for identity, reason in runner.progress.failures.items()}


def tables(plan: Plan, rows: RowCells, out: Path, keep_old: bool = False) -> list[Table]:
    """Build the tables of a plan from the finished runs.

    Args:
        plan: Plan of the tables.
        rows: Rows from `rows_of`.
        out: Folder of the bench.
        keep_old: Accept and mark results of an older version of the code.

    Raises:
        InputError: If no run is finished.
    """
    older = older_cells(out) if keep_old else {}
    found: dict[str, list[Row]] = {}
    for (label, name), (entry, cells) in rows.items():
        runs = {cell.config.seed: finished_run(cell, out, older) for cell in cells}
        done = {seed: run for seed, run in runs.items() if run is not None}
        missing = tuple(seed for seed in runs if seed not in done)
        own = {cell.config.seed: cell.folder(out) for cell in cells}
        old = frozenset(seed for seed, run in done.items() if run.folder != own[seed])
        found.setdefault(label, []).append(Row(name, done, missing, entry.published, old))
    notes = [f"settings of all methods: {_format_change(change)}" for change in plan.changes]
    built = [table for each in found.values() for table in tables_of(each, plan.columns, plan.reference, notes)]
    if not built:
        raise InputError(f"no training of the plan {plan.name} is finished in {out} with this version of the code")
    return built


def check_formats(formats: Sequence[str]) -> None:
    """Check the names of formats, before hours of training.

    Raises:
        InputError: If a format is unknown.
    """
    for name in formats:
        if name not in FILES:
            raise unknown_name("format", name, FILES)


def write_tables(built: Sequence[Table], plan: Plan, out: Path, formats: Sequence[str] = tuple(FILES)) -> list[Path]:
    """Write the tables atomically, and return the paths.

    Args:
        built: Tables of the plan.
        plan: Plan of the tables.
        out: Folder of the bench. The files go to a folder in it with the name of the plan.
        formats: Formats: "md", "tex", "csv", "html".

    Raises:
        InputError: If a format is unknown, or a file cannot be written.
    """
    texts = {
        "md": lambda: markdown(built, plan.name, plan.about),
        "tex": lambda: latex(built, plan.name),
        "csv": lambda: csv_table(built),
        "html": lambda: page(built, plan.name, plan.about),
    }
    check_formats(formats)
    paths = []
    for name in formats:
        path = out / plan.name / FILES[name]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, texts[name]())
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
        paths.append(path)
    return paths


def _format_change(change: Mapping[str, object], prefix: str = "") -> str:
    """Format a change, such as "training.epochs=24"."""
    parts = []
    for key, value in change.items():
        if key == "set" and isinstance(value, list):
            parts += [f"{path}={setting}" for path, setting in value]
        elif isinstance(value, Mapping):
            parts.append(_format_change(value, f"{prefix}{key}."))
        else:
            parts.append(f"{prefix}{key}={value}")
    return ", ".join(parts)
