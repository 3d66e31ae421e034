"""`longtail train`: train a method, evaluate it on the test split and write a report."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import CommandLine, Folder, RunOptions, Threads
from longtail.errors import InputError

if TYPE_CHECKING:
    from longtail.config.schema import Config
    from longtail.run.resolve import ResolvedRun


def main(
    data: str | None = None,
    /,
    *,
    run: RunOptions = RunOptions(),
    out: Annotated[Folder, Parameter(group="Run")] = None,
    resume: Annotated[bool, Parameter(group="Run")] = False,
    start: Annotated[Folder, Parameter(name="--from", group="Run")] = None,
    against: Annotated[tuple[str, ...], Parameter(group="Run", metavar="METHOD")] = (),
    log: Annotated[tuple[str, ...], Parameter(group="Run", metavar="LOGGER")] = (),
    threads: Annotated[Threads, Parameter(group="Run")] = None,
    command: CommandLine = "",
) -> None:
    """Train on a data set, evaluate once on the test split, and write a report.

    Args:
        data: Name of a data set (longtail list data), or a path. Default: digits-lt.
        run: Options that define the configuration.
        out: Folder of the run. Default: runs/DATA-METHOD-seedN.
        resume: Resume the run in --out.
        start: Finished run with the same first stages, which are taken from it.
        against: Train these methods too and compare.
        log: Experiment trackers that also receive the log: tensorboard, wandb, mlflow, trackio.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.
        command: Command line as typed.

    Examples:
        longtail train photos/
        longtail train labels.csv --out runs/first --against ce
        longtail train cifar100-lt --imbalance-factor 100 --method balanced-softmax --epochs 24 --seed 1
        longtail train --resume --out runs/first
        longtail train --config runs/first/config.yaml --seed 2
        longtail train cifar100-lt --set stages.0.training.optimizer.weight_decay=5e-4
    """
    if resume and out is None:
        raise InputError("`--resume` needs `--out`, the folder of the run to resume")
    if out is not None and out.name in ("", ".."):
        raise InputError(f"`--out` must name a folder, got {str(out)!r}")
    chosen = prepare(threads)
    name = run.data_set(data)
    from longtail.cli._output import out as results
    from longtail.data.load import load_data
    from longtail.run.fit import check_run, choose_device, fit

    plan = resolve(run, name, resumed=out if resume else None)
    first, loaded = plan.config, plan.data
    example = name is None and run.method is None and not run.config and not resume
    runs = _runs(first, out, against or (("ce",) if example and first.method != "ce" else ()))
    if len(runs) > 1:  # check every run before the first one trains
        loaded = loaded or load_data(first.data, choose_device(first.device))
        for folder, config in runs.items():
            check_run(config, folder, data=loaded, resume=resume, start=start, loggers=log)
    scores, reasons = {}, [str(chosen), *(f"chosen: {reason}" for reason in plan.reasons)]
    for folder, config in runs.items():
        announced = [
            *reasons,
            f"training {config.method} on {_described(config)} -> {folder}",
        ]
        finished = fit(
            config,
            folder,
            data=loaded,
            resume=resume,
            start=start,
            loggers=log,
            command=command,
            on_start=partial(_print_all, announced),
        )
        scores[config.method], reasons = finished.scores, []
    from longtail.report import scores_table  # matplotlib takes a second to import

    results.print(scores_table(scores))
    for folder in runs:
        results.print(f"report: {folder / 'report.html'}")


def resolve(run: RunOptions, data: str | None, *, resumed: Path | None = None, fetch: bool = True) -> "ResolvedRun":
    """Return the resolved configuration of a command line, with the reasons for what it leaves open.

    Args:
        run: Options that define the configuration.
        data: Name or path of the data set; None if it is not given.
        resumed: Folder of the run to resume. It keeps its configuration if no data set, method or file is given.
        fetch: Download pretrained weights that are missing.

    Raises:
        InputError: If a name, setting or file is invalid, or `resumed` holds no run.
    """
    from longtail.run import resolve

    return resolve.resolve(data, run.method, run.recipe, run.changes(), files=run.config, resumed=resumed, fetch=fetch)


def _runs(first: "Config", out: Path | None, against: tuple[str, ...]) -> dict[Path, "Config"]:
    """Return the configuration of every run by its folder: the first run, and the same with other methods."""
    from longtail.run.folder import new_folder
    from longtail.run.resolve import same_but_method

    repeated = next((method for method in against if method == first.method or against.count(method) > 1), None)
    if repeated is not None:
        raise InputError(
            f"`--against` must name methods that differ from each other and from {first.method}, got {repeated}"
        )
    runs = {out or new_folder(first): first}
    for method in against:
        other = same_but_method(first, method)
        runs[out.with_name(f"{out.name}-{method}") if out else new_folder(other)] = other
    return runs


def _print_all(lines: list[str]) -> None:
    from longtail.cli._output import console

    for line in lines:
        console.print(line)


def _described(config: "Config") -> str:
    """Return data set, network, recipe, length and seed of a run, for the line before it starts."""
    training = config.stages[0].training_settings()
    length = "no training" if training is None else training.length
    net = f"{config.model.backbone.name}{', pretrained' if config.model.pretrained else ''}"
    return f"{config.data.shown_as} ({net}; recipe {config.recipe}, {length}; seed {config.seed})"
