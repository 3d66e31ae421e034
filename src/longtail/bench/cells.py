"""Cells of a plan, identified by the hash of their configuration, split and code.

A first stage that several methods share is trained once, as a hidden cell from which the others start. Finished runs of
`longtail train` can be adopted as cells.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

import longtail
from longtail._io import write_json
from longtail.bench.plan import DataEntry, MethodEntry, Plan
from longtail.config import recipes
from longtail.config.convert import to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.models.classifier import build_classifier
from longtail.run.fit import choose_device, prepare_stages
from longtail.run.folder import FREE, not_finished
from longtail.run.resolve import resolve_names, same_but_method
from longtail.run.run import Run

NOT_TRAINING = ("__main__.py", "_threads.py", "bench", "cli", "papers", "report", "run/recommend.py", "run/run.py")
"""Parts of the package that no training depends on: a change to them leaves `code_version` as it is."""
PREFIX = 12
"""Number of characters of the hash in the name of a cell's folder."""


@dataclass(frozen=True)
class Cell:
    """One training: a method on a data set with a seed.

    Args:
        config: Configuration of the run. Its `method` is the name of the row.
        split: SHA-256 of the training split.
        code: Version of the code, see `code_version`.
        images: Number of training images, to estimate the length. 0 if unknown.
    """

    config: Config
    split: str
    code: str
    images: int = 0

    @cached_property
    def settings(self) -> str:
        """Hash of configuration and split, without code version, device and name of the row."""
        return _digest([_settings(self.config), self.split])

    @cached_property
    def identity(self) -> str:
        """Hash of configuration, split and code. Cells with the same identity are the same training."""
        return _digest([self.settings, self.code])

    def folder(self, out: Path) -> Path:
        """Return the folder of the cell's run: out/cells/HASH-readable.

        An existing folder keeps its name, even if another plan names the row differently.
        """
        cells = out / "cells"
        found = sorted(cells.glob(f"{self.identity[:PREFIX]}-*"))
        data = self.config.data
        factor = f"-{data.imbalance_factor:g}" if data.imbalance_factor else ""
        readable = re.sub(r"[^\w.-]+", "-", f"{data.shown_as}{factor}-{self.config.method}-seed{self.config.seed}")
        return found[0] if found else cells / f"{self.identity[:PREFIX]}-{readable}"

    @property
    def about(self) -> str:
        """Method, data and seed as text."""
        data = self.config.data
        factor = f" IF {data.imbalance_factor:g}" if data.imbalance_factor else ""
        return f"{self.config.method} on {data.shown_as}{factor}, seed {self.config.seed}"


@dataclass(frozen=True)
class Job:
    """A cell to train.

    Args:
        cell: Cell to train.
        start: Identity of the cell that provides the first stages. None trains all stages.
        hidden: True if the cell is not part of the plan but the shared beginning of other cells.
    """

    cell: Cell
    start: str | None
    hidden: bool


@cache
def code_version() -> str:
    """Return the hash of the source files that a training can depend on.

    Example:
        >>> len(code_version())
        64
    """
    root = Path(longtail.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not f"{name}/".startswith(tuple(f"{part}/" for part in NOT_TRAINING)):
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def cells_of(plan: Plan) -> Iterator[tuple[DataEntry, MethodEntry, Cell]]:
    """Yield all cells of a plan. Reads the data sets and validates the stages, but trains nothing.

    Args:
        plan: Plan to expand.

    Raises:
        InputError: If data cannot be read, or a method cannot run on them.
    """
    for data in plan.data:
        loaded: dict[DataConfig, Dataset] = {}
        for method, config in configs_of(plan, data):
            if config.data not in loaded:
                loaded[config.data] = load_data(config.data, torch.device("cpu"))
            _validate_stages(config, loaded[config.data])
            for seed in plan.seeds:
                split = loaded[config.data].split
                cell = Cell(replace(config, seed=seed), split.sha256, code_version(), split.images)
                yield data, method, cell


def epochs_of(cell: Cell, start: Cell | None = None) -> int:
    """Return about how many epochs a training takes, at least 1.

    Args:
        cell: Cell to train.
        start: Cell that provides the first stages, or None.
    """
    stages = cell.config.stages[0 if start is None else len(start.config.stages) :]
    settings = [found for stage in stages if (found := stage.training_settings()) is not None]
    return max(1, sum(each.in_epochs(max(1, -(-cell.images // each.batch_size))).epochs for each in settings))


def jobs_for(cells: Sequence[Cell]) -> dict[str, Job]:
    """Return the trainings that a plan needs, each once, including shared first stages.

    Args:
        cells: Cells of a plan. Cells with the same identity become one job.

    Returns:
        Jobs by identity. A job comes after the job that it starts from.
    """
    wanted: dict[str, Cell] = {}
    for cell in cells:  # the first of several names of one training
        wanted.setdefault(cell.identity, cell)
    users: dict[str, set[str]] = {}
    for cell in wanted.values():
        for beginning in _beginnings(cell):
            users.setdefault(beginning.identity, set()).add(cell.identity)
    shared = {identity for identity, by in users.items() if identity in wanted or len(by) > 1}
    jobs: dict[str, Job] = {}

    def add(cell: Cell, hidden: bool) -> None:
        start = next((each for each in _beginnings(cell) if each.identity in shared), None)
        if start is not None and start.identity not in jobs:
            add(wanted.get(start.identity, start), start.identity not in wanted)
        jobs[cell.identity] = Job(cell, start.identity if start else None, hidden)

    for cell in wanted.values():
        if cell.identity not in jobs:
            add(cell, hidden=False)
    return jobs


def configs_of(plan: Plan, data: DataEntry) -> list[tuple[MethodEntry, Config]]:
    """Return the configuration of each row on a data set, without the seed.

    Args:
        plan: Plan with the rows.
        data: Data set of the plan.

    Raises:
        InputError: If a setting does not exist; the message names the row.
    """
    common = [*([{"data": data.settings}] if data.settings else []), *plan.changes]
    found = []
    first: Config | None = None
    for entry in plan.methods:
        try:
            if data.name in recipes.names("data"):
                config = recipes.compose(data.name, entry.method, entry.recipe or plan.recipe, [*common, entry.change])
            else:  # a folder: backbone and length are chosen from its images, once for all rows
                first = first or resolve_names(data.name, "ce", plan.recipe, common, torch.device("cpu")).config
                same = to_mapping(same_but_method(first, entry.method))
                config = recipes.typed(recipes.apply(same, entry.change))
        except InputError as error:
            raise InputError(f"{entry.name} on {data.name}: {error}") from error
        found.append((entry, replace(config, method=entry.name)))
    return found


def adopt(runs: Sequence[Path], out: Path, wanted: Container[str]) -> list[Path]:
    """Copy finished runs into a bench, as results of an older version of the code. Existing copies are kept.

    Args:
        runs: Folders of finished runs.
        out: Folder of the bench.
        wanted: `Cell.settings` of the cells of the plan.

    Returns:
        Runs that match no cell of the plan. They are not copied.

    Raises:
        InputError: If a folder holds no finished run.
    """
    cells = {run: _cell_of(run) for run in runs}
    for run, cell in cells.items():
        target = out / "cells" / f"{cell.settings[:PREFIX]}-adopted-{run.resolve().name}"
        if cell.settings in wanted and not target.exists():
            _copy(run, target, {"settings": cell.settings, "adopted_from": str(run)})
    return [run for run, cell in cells.items() if cell.settings not in wanted]


def _cell_of(folder: Path) -> Cell:
    run = Run.load(folder)
    if not (folder / "predictions.npz").exists():
        raise not_finished(folder)
    return Cell(run.config, run.result["split"]["sha256"], code="")


def _copy(run: Path, target: Path, about: dict[str, str]) -> None:
    """Copy a run into a temporary folder and rename it, so that no half copy remains."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            ignored = shutil.ignore_patterns("report.html", "*.lock", ".*")
            copy = shutil.copytree(run, Path(temporary) / "run", ignore=ignored)
            write_json(copy / "cell.json", about)
            copy.rename(target)
    except OSError as error:
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error.strerror or error
        raise InputError(f"cannot copy {run} to {target.parent}: {reason}; choose another folder") from error


def _validate_stages(config: Config, data: Dataset) -> None:
    try:
        choose_device(config.device)
        prepare_stages(config, data, build_classifier(replace(config.model, pretrained=False), data, config.seed))
    except InputError as error:
        raise InputError(f"{config.method} on {config.data.shown_as}: {error}") from error


def _beginnings(cell: Cell) -> Iterable[Cell]:
    """Yield the cells that consist of the first stages of this one, the longest first."""
    for length in range(len(cell.config.stages) - 1, 0, -1):
        config = replace(cell.config, stages=cell.config.stages[:length])
        yield replace(cell, config=replace(config, method=f"stage-{length}-of-{cell.config.method}"))


def _settings(config: Config) -> dict[str, Any]:
    """Return all settings except the name of the row and those that cannot change a result."""
    settings: dict[str, Any] = to_mapping(config)
    for stage in settings["stages"]:  # under its first name, so that cells of earlier versions keep their hash
        if "allow_double_balancing" in stage:
            stage["balance_twice"] = stage.pop("allow_double_balancing")
    for path in (*FREE, "method"):
        *above, last = path.split(".")
        node = settings
        for key in above:
            node = node[key]
        node.pop(last, None)
    return settings


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
