"""`longtail train`: train a method, evaluate it on the test split and write a report."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtail.cli._options import CommandLine, Folder, RunOptions
from longtail.errors import InputError

if TYPE_CHECKING:
    from longtail.config.schema import Config
    from longtail.run.resolve import Plan


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
        log: Also log to these: tensorboard, wandb.
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
    name = run.data_set(data)
    from longtail.cli._output import console
    from longtail.cli._output import out as results
    from longtail.run.fit import fit
    from longtail.run.resolve import same_but_method

    plan = resolve(run, name, begun=out if resume else None)
    for reason in plan.reasons:
        console.print(f"chosen: {reason}")
    first = plan.config
    example = name is None and run.method is None and not run.config and not resume
    runs = {out or _free_folder(first): first}
    for method in against or (["ce"] if example and first.method != "ce" else []):
        other = same_but_method(first, method)
        runs[out.with_name(f"{out.name}-{method}") if out else _free_folder(other)] = other
    scores = {}
    for folder, config in runs.items():
        console.print(f"training {config.method} on {_described(config)} -> {folder}")
        finished = fit(config, folder, data=plan.data, resume=resume, start=start, loggers=log, command=command)
        scores[config.method] = finished.scores
    from longtail.report import scores_table  # matplotlib takes a second to import

    results.print(scores_table(scores))
    for folder in runs:
        results.print(f"report: {folder / 'report.html'}")


def resolve(run: RunOptions, data: str | None, *, begun: Path | None = None, fetch: bool = True) -> "Plan":
    """Return the resolved configuration of a command line, with the reasons for what it leaves open.

    Args:
        run: Options that define the configuration.
        data: Name or path of the data set; None if it is not given.
        begun: Folder of the run to resume. It keeps its configuration if no data set, method or file is given.
        fetch: Download pretrained weights that are missing.

    Raises:
        InputError: If a name, setting or file is invalid, or `begun` holds no run.
    """
    from longtail.config import recipes
    from longtail.run.fit import choose_device
    from longtail.run.resolve import Plan, plan_run

    changes = run.changes()
    if begun is not None and data is None and run.method is None and not run.config:
        if not (begun / "config.yaml").exists():
            raise InputError(f"{begun} holds no run to resume; check --out, or give the data set to train on")
        return Plan(recipes.typed(recipes.apply(recipes.read_file(begun / "config.yaml"), changes)), None)
    files = [recipes.read_file(path) for path in run.config]
    if files and "stages" in files[0] and data is None and run.method is None:
        return Plan(recipes.typed(_merged([*files, changes])), None)
    named = next((str(each["data"]["name"]) for each in files if "name" in each.get("data", {})), None)
    device = choose_device(str(changes.get("device", "auto")))
    return plan_run(data or named or "digits-lt", run.method, run.recipe, [*files, changes], device, fetch=fetch)


def _merged(changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from longtail.config import recipes

    merged: dict[str, Any] = {}
    for change in changes:
        merged = recipes.apply(merged, change)
    return merged


def _described(config: "Config") -> str:
    """Return data set, network, recipe, length and seed of a run, for the line before it starts."""
    training = config.stages[0].options.get("training") or {}
    epochs = training.get("epochs", 0)
    length = f"{epochs:,} epoch{'' if epochs == 1 else 's'}"
    if training.get("iterations"):
        length = f"{training['iterations']:,} steps"
    net = f"{config.model.backbone.name}{', pretrained' if config.model.pretrained else ''}"
    return f"{config.data.shown_as} ({net}; recipe {config.recipe}, {length}; seed {config.seed})"


def _free_folder(config: "Config") -> Path:
    """Return runs/DATA-METHOD-seedN, with a number if that folder exists."""
    name = f"{Path(config.data.name).stem}-{config.method}-seed{config.seed}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in (Path("runs") / each for each in names) if not folder.exists())
