"""What `train` and `show` do, once their arguments are read."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longtail._logging import console
from longtail.commands.output import out
from longtail.config import recipes
from longtail.config.schema import Config
from longtail.errors import InputError
from longtail.evaluation import Scores
from longtail.run import resolve as plan
from longtail.run.fit import fit


def train(
    *,
    data: str | None,
    method: str | None,
    recipe: str | None,
    folder: Path | None,
    resume: bool,
    config: Sequence[Path],
    changes: Mapping[str, Any],
    against: Sequence[str],
    start: Path | None,
    loggers: Sequence[str],
    command: str,
) -> None:
    """Train, judge, and say where the report is."""
    if resume and folder is None:
        raise InputError("--resume needs --out, the folder of the run to go on with")
    demo = data is None and method is None and not config and not resume
    settled = plan.resolve(data, method, recipe, changes, files=config, resumed=folder if resume else None)
    for reason in settled.reasons:
        console.print(f"chosen: {reason}")
    first = settled.config
    runs = {folder or _free_folder(first): first}
    for name in against or (["ce"] if demo and first.method != "ce" else []):
        other = plan.same_but_method(first, name)
        runs[_beside(folder, name) if folder else _free_folder(other)] = other
    rows: dict[str, Scores] = {}
    for place, each in runs.items():
        console.print(f"training {each.method} on {_in_words(each)} -> {place}")
        run = fit(each, place, data=settled.data, resume=resume, start=start, loggers=loggers, command=command)
        rows[each.method] = run.scores
    from longtail.report import scores_table  # matplotlib takes a second to import

    out.print(scores_table(rows))
    for place in runs:
        out.print(f"report: {place / 'report.html'}")


def _in_words(config: Config) -> str:
    """Data, net, length and recipe of a run, for the line before it starts."""
    training = config.stages[0].training_settings()
    length = "no training" if training is None else training.length
    net = f"{config.model.backbone.name}{', pretrained' if config.model.pretrained else ''}"
    return f"{config.data.shown_as} ({net}; recipe {config.recipe}, {length}; seed {config.seed})"


def _beside(folder: Path, method: str) -> Path:
    return folder.with_name(f"{folder.name}-{method}")


def _free_folder(config: Config) -> Path:
    """runs/DATA-METHOD-seedN, numbered on where that is taken."""
    name = f"{Path(config.data.name).stem}-{config.method}-seed{config.seed}"
    tries = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(place for place in tries if not place.exists())


def show(
    *,
    data: str | None,
    method: str | None,
    recipe: str | None,
    config: Sequence[Path],
    changes: Mapping[str, Any],
) -> None:
    """Print the resolved configuration: YAML that `longtail train --config` runs."""
    settled = plan.resolve(data, method, recipe, changes, files=config, fetch=False)
    for reason in settled.reasons:
        console.print(f"chosen: {reason}")
    sys.stdout.write(recipes.to_yaml(settled.config))
