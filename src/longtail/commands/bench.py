"""`longtail bench`: train the cells of a plan and write its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail._logging import console
from longtail.bench.board import terminal_table
from longtail.bench.cells import adopt
from longtail.bench.plan import names, narrowed, read_plan
from longtail.bench.run import rows_of, tables, train_rows, write_tables
from longtail.bench.runner import budget
from longtail.commands.output import out
from longtail.errors import InputError, first_ten
from longtail.report.wording import several


def bench(
    *,
    plan: str | None,
    folder: Path,
    jobs: int | None,
    memory_gb: float | None,
    only: Sequence[str],
    seeds: int | None,
    factors: Sequence[float],
    changes: Mapping[str, Any],
    table_only: bool,
    keep_old: bool,
    adopted: Sequence[Path],
    formats: Sequence[str],
    command: str,
) -> None:
    """Train what is not done yet of a plan, and write its tables; exit code 1 if a training failed.

    Args:
        plan: name of a plan or path of a file; None lists the plans.
        folder: of the bench; its cells are shared by all plans.
        jobs: trainings at once; None takes one per core.
        memory_gb: main memory of all of them; None takes what is free.
        only: the rows wanted; none given means all.
        seeds: the first so many seeds.
        factors: imbalance factors in the place of the plan's.
        changes: settings of all trainings.
        table_only: train nothing.
        keep_old: results of an older version of the code will do.
        adopted: finished runs to take as such results.
        formats: "md", "tex", "csv", "html".
        command: what the user typed.
    """
    if plan is None:
        for name in names():
            out.print(f"  {name:20} {read_plan(name).about}", markup=False)
        return
    wanted = narrowed(read_plan(plan), only, seeds, changes, factors)
    limits = budget(jobs, memory_gb)
    rows = rows_of(wanted)
    strangers = adopt(adopted, folder, {cell.settings for _, cells in rows.values() for cell in cells})
    if strangers:
        listed = first_ten(map(str, strangers))
        console.print(f"not taken, as no training of the plan has their settings and images:\n{listed}", markup=False)
    failures: Mapping[str, str] = {}
    if not table_only:
        try:
            failures = train_rows(rows, folder, limits, command, keep_old)
        except KeyboardInterrupt:
            console.print("the same command goes on from here")
            raise
    try:
        built = tables(wanted, rows, folder, keep_old)
    except InputError:
        if not failures:
            raise
        built = []
    for table in built:
        out.print(terminal_table(table))
    left_out = len(read_plan(plan).methods) - len(wanted.methods)
    if built and left_out:
        out.print(f"without --only the tables also hold the plan's {several(left_out, 'other row')}", markup=False)
    for path in write_tables(built, wanted, folder, formats) if built else ():
        out.print(f"table: {path}", markup=False)
    if failures:
        listed = first_ten(f"{cell}: {why}" for cell, why in failures.items())
        console.print(
            f"{several(len(failures), 'training')} failed; the same command tries again:\n{listed}", markup=False
        )
        raise SystemExit(1)
