"""Cells: what a plan comes to, each known by the hash of its configuration, its split and the code that runs it.

A stage that several methods begin with is trained once: its cell is hidden from the table, and the others start from
it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

import longtail
from longtail.bench.plan import DataEntry, MethodEntry, Plan
from longtail.config import recipes
from longtail.config.convert import to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.models.classifier import build_classifier
from longtail.run.fit import prepare_stages
from longtail.run.folder import FREE
from longtail.run.resolve import resolve_names, same_but_method

# parts of the package that read results or ask for them: no training comes out differently when they change
NOT_TRAINING = ("arguments", "bench", "commands", "comparison", "figures", "published", "report", "cli.py")
PREFIX = 12  # characters of the hash in a folder's name


@dataclass(frozen=True)
class Cell:
    """One training: a method on a data set with a seed.

    Args:
        config: of the run; its `method` is the row of the table.
        split: SHA-256 of the training images.
        code: version of the code, see `code_version`.
    """

    config: Config
    split: str
    code: str

    @cached_property
    def settings(self) -> str:
        """Hash of what is done on which images, whatever the code, the device and the name of the method."""
        return _digest([_settings(self.config), self.split])

    @cached_property
    def identity(self) -> str:
        """Hash of what is done on which images by which code: two cells of one identity are one training."""
        return _digest([self.settings, self.code])

    def folder(self, out: Path) -> Path:
        """Where its run lies: out/cells/HASH-readable; the name that another plan gave it stays."""
        place = out / "cells"
        found = sorted(place.glob(f"{self.identity[:PREFIX]}-*"))
        data = self.config.data
        factor = f"-{data.imbalance_factor:g}" if data.imbalance_factor else ""
        readable = re.sub(r"[^\w.-]+", "-", f"{data.shown_as}{factor}-{self.config.method}-seed{self.config.seed}")
        return found[0] if found else place / f"{self.identity[:PREFIX]}-{readable}"

    @property
    def about(self) -> str:
        """The cell in words."""
        data = self.config.data
        factor = f" IF {data.imbalance_factor:g}" if data.imbalance_factor else ""
        return f"{self.config.method} on {data.shown_as}{factor}, seed {self.config.seed}"


@dataclass(frozen=True)
class Job:
    """A cell to be trained.

    Args:
        cell: which.
        start: identity of the cell that does its first stages; None starts from nothing.
        hidden: it is not in the plan, only the beginning of cells that are.
    """

    cell: Cell
    start: str | None
    hidden: bool


@cache
def code_version() -> str:
    """Hash of the package's source files that a training can depend on, as they lie on the disk.

    Example:
        >>> len(code_version())
        64
    """
    root = Path(longtail.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if name.split("/")[0] not in NOT_TRAINING:
            digest.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def cells_of(plan: Plan) -> Iterator[tuple[DataEntry, MethodEntry, Cell]]:
    """All cells of a plan, checked as far as can be without training: data sets are read, stages asked.

    Raises:
        InputError: for data that can not be read, or a method that can not be run on them.
    """
    for data in plan.data:
        loaded: dict[DataConfig, Dataset] = {}
        for method, config in configs_of(plan, data):
            if config.data not in loaded:
                loaded[config.data] = load_data(config.data, torch.device("cpu"))
            _refuse_unfit(config, loaded[config.data])
            for seed in plan.seeds:
                cell = Cell(replace(config, seed=seed), loaded[config.data].split.sha256, code_version())
                yield data, method, cell


def jobs_for(cells: Sequence[Cell]) -> dict[str, Job]:
    """What is to be trained, by identity: each cell once, and first stages that several share once, too.

    Args:
        cells: of a plan; those of one identity become one job.

    Returns:
        Jobs in such an order that a job comes after the one it starts from.
    """
    wanted: dict[str, Cell] = {}
    for cell in cells:  # of several names of one training, the first
        wanted.setdefault(cell.identity, cell)
    begun_by: dict[str, set[str]] = {}
    for cell in wanted.values():
        for beginning in _beginnings(cell):
            begun_by.setdefault(beginning.identity, set()).add(cell.identity)
    shared = {identity for identity, users in begun_by.items() if identity in wanted or len(users) > 1}
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
    """The configuration of each row on a data set, seed aside.

    Args:
        plan: whose rows.
        data: one of its data sets.

    Raises:
        InputError: for a setting that does not exist, naming the row.
    """
    common = [*({"data": data.settings} for _ in range(bool(data.settings))), *plan.changes]
    found = []
    own: Config | None = None
    for entry in plan.methods:
        try:
            if data.name in recipes.names("data"):
                config = recipes.compose(data.name, entry.method, entry.recipe or plan.recipe, [*common, entry.change])
            else:  # the net and the length come from a look at the images, once
                own = own or resolve_names(data.name, "ce", plan.recipe, common, torch.device("cpu")).config
                same = to_mapping(same_but_method(own, entry.method))
                config = recipes.typed(recipes.apply(same, entry.change))
        except InputError as error:
            raise InputError(f"{entry.name} on {data.name}: {error}") from error
        found.append((entry, replace(config, method=entry.name)))
    return found


def _refuse_unfit(config: Config, data: Dataset) -> None:
    try:
        prepare_stages(config, data, build_classifier(replace(config.model, pretrained=False), data, config.seed))
    except InputError as error:
        raise InputError(f"{config.method} on {config.data.shown_as}: {error}") from error


def _beginnings(cell: Cell) -> Iterable[Cell]:
    """Cells that do the first stages of this one, the longest first."""
    for length in range(len(cell.config.stages) - 1, 0, -1):
        config = replace(cell.config, stages=cell.config.stages[:length])
        yield replace(cell, config=replace(config, method=f"stage-{length}-of-{cell.config.method}"))


def _settings(config: Config) -> dict[str, Any]:
    """All settings but those that change no result: where it runs, and what it is called."""
    settings: dict[str, Any] = to_mapping(config)
    for path in (*FREE, "method"):
        *above, last = path.split(".")
        node = settings
        for key in above:
            node = node[key]
        del node[last]
    return settings


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
