"""`longtail bench`: train the methods of a plan and write the tables."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtail.cli._options import CommandLine, Integer, Number, Numbers, Threads, read_setting
from longtail.errors import InputError, first_ten

if TYPE_CHECKING:
    from longtail.bench.plan import Plan

SETTINGS = "Settings of all trainings"


def main(
    plan: str | None = None,
    /,
    *,
    out: Annotated[Path, Parameter(metavar="FOLDER")] = Path("runs/bench"),
    jobs: Annotated[str, Parameter(metavar="auto|N")] = "auto",
    threads: Threads = None,
    memory_gb: Number = None,
    only: Annotated[tuple[str, ...], Parameter(metavar="METHOD")] = (),
    seeds: Integer = None,
    imbalance_factors: Numbers = (),
    table_only: bool = False,
    keep_old: bool = False,
    adopt: Annotated[tuple[Path, ...], Parameter(metavar="RUN")] = (),
    formats: Annotated[tuple[str, ...], Parameter(name="--format", metavar="FORMAT")] = ("md", "tex", "csv", "html"),
    epochs: Annotated[Integer, Parameter(group=SETTINGS)] = None,
    precision: Annotated[str | None, Parameter(group=SETTINGS, metavar="TYPE")] = None,
    device: Annotated[str | None, Parameter(group=SETTINGS, metavar="DEVICE")] = None,
    root: Annotated[str | None, Parameter(group=SETTINGS, metavar="FOLDER")] = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", group=SETTINGS, metavar="KEY=VALUE")] = (),
    command: CommandLine = "",
) -> None:
    """Train methods x data sets x seeds by a plan, several at a time, and write the tables.

    Each training runs once. After an interrupt, the same command resumes. The exit code is 1 if a training failed; the
    others still run.

    Args:
        plan: Name of a plan, or a YAML file. Without it, the plans are listed.
        out: Folder of all trainings and tables. Default: runs/bench.
        jobs: Number of trainings at once, or auto (the default), which measures how many are fastest.
        threads: Threads of each training. Default: its share of the cores, at most $OMP_NUM_THREADS.
        memory_gb: Main memory of all trainings, in GB. Default: the free memory.
        only: Train only these methods of the plan.
        seeds: Number of seeds (0 to N-1). Default: from the plan.
        imbalance_factors: Imbalance factors of all data sets. Default: from the plan.
        table_only: Write the tables of the finished trainings; train nothing.
        keep_old: Accept results of an older version of the code, and mark them.
        adopt: Finished runs of `longtail train`. Those with settings of the plan count as results of older code.
        formats: Formats of the tables. Default: md tex csv html.
        epochs: Epochs of the Train stages. The schedule keeps its shape.
        precision: Precision of the forward pass: auto, fp32, bf16 or fp16.
        device: Device: cpu, cuda, cuda:1, ... Default: an accelerator if available.
        root: Folder of the files of a named data set. Default: $LONGTAIL_DATA.
        settings: Any setting, by its path in `longtail show`. Stages count from 0.
        command: Command line as typed.

    Examples:
        longtail bench
        longtail bench quick
        longtail bench quick --only ce balanced-softmax balms --seeds 5
        longtail bench cifar100-ldam --epochs 24 --precision bf16 --jobs 2 --out runs/short
        longtail bench mine.yaml --table-only --format md
    """
    training = {"epochs": epochs, "precision": precision}
    changes: dict[str, Any] = {
        "device": device,
        "training": {key: value for key, value in training.items() if value is not None},
        "data": {} if root is None else {"root": root},
        "set": [read_setting(text) for text in settings],
    }
    from longtail.bench.budget import budget
    from longtail.bench.cells import adopt as adopt_runs
    from longtail.bench.plan import narrowed, read_plan
    from longtail.bench.run import check_formats, rows_of, tables, train_rows
    from longtail.cli._output import console

    if plan is None:
        if shlex.split(command)[2:]:
            raise InputError("the plan is missing; `longtail bench` without options lists the plans")
        _list_plans()
        return
    check_formats(formats)
    given = {key: value for key, value in changes.items() if value}
    wanted = narrowed(read_plan(plan), only, seeds, given, imbalance_factors)
    limits = budget(_number_of(jobs), memory_gb, threads, device or "auto")
    rows = rows_of(wanted)
    others = adopt_runs(adopt, out, {cell.settings for _, cells in rows.values() for cell in cells})
    if others:
        listed = first_ten(map(str, others))
        console.print(
            f"not adopted, because no training of the plan has their settings and images:\n{listed}", markup=False
        )
    older = keep_old or bool(adopt)
    failures: Mapping[str, str] = {}
    if not table_only:
        console.print(str(limits))
        try:
            failures = train_rows(rows, out, limits, command, older)
        except KeyboardInterrupt:
            console.print("resume with the same command")
            raise
    try:
        built = tables(wanted, rows, out, older)
    except InputError:
        if not failures:
            raise
        built = []
    _print_tables(built, wanted, len(read_plan(plan).methods) - len(wanted.methods), out, formats)
    if failures:
        from longtail.report.wording import several

        listed = first_ten(f"{cell}: {why}" for cell, why in failures.items())
        console.print(
            f"{several(len(failures), 'training')} failed; retry with the same command:\n{listed}", markup=False
        )
        raise SystemExit(1)


def _number_of(jobs: str) -> int | None:
    """Return the number of trainings at once; None for "auto"."""
    if jobs == "auto":
        return None
    try:
        return int(jobs)
    except ValueError as error:
        raise InputError(f"`--jobs` must be auto or an integer >= 1, got {jobs!r}") from error


def _list_plans() -> None:
    from longtail.bench.plan import names, read_plan
    from longtail.cli._output import out

    for name in names():
        out.print(f"  {name:20} {read_plan(name).about}")


def _print_tables(built: list[Any], plan: "Plan", left_out: int, folder: Path, formats: tuple[str, ...]) -> None:
    """Write the tables, and print them and their paths."""
    from longtail.bench.board import terminal_table
    from longtail.bench.run import write_tables
    from longtail.cli._output import out
    from longtail.report.wording import several

    # files first: the reader of stdout may close it early, as in `| head`
    paths = write_tables(built, plan, folder, formats) if built else []
    for table in built:
        out.print(terminal_table(table))
    if built and left_out:
        out.print(f"without --only the tables also hold the plan's {several(left_out, 'other row')}")
    for path in paths:
        out.print(f"table: {path}")
