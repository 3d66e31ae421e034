"""Finished runs as figures take them: read, named, and refused where they must not be compared.

Shapes: N = images, C = classes, D = embedding dimension.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from longtail._logging import progress_bar
from longtail.config.convert import to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions, group_options, read_predictions, read_result
from longtail.report.classes import Classes
from longtail.run.fit import choose_device
from longtail.run.folder import load_config, not_finished
from longtail.run.run import Run
from longtail.training.predict import predict

PartName = Literal["test", "train"]
NEEDED = ("method", "recipe", "seed", "split", "backbone", "protocol", "class_groups", "test")
"""What a figure reads of `result.json`."""


class Outputs(NamedTuple):
    """What a model makes of a part of its data, on the CPU.

    Args:
        logits_NC: raw scores.
        embeddings_ND: what the classifier sees.
        targets_N: true labels.
    """

    logits_NC: Tensor
    embeddings_ND: Tensor
    targets_N: Tensor


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run's folder, read.

    Args:
        folder: where its files are.
        label: what figures call it.
        result: the content of `result.json`.
        predictions: of the test part.
    """

    folder: Path
    label: str
    result: Mapping[str, Any]
    predictions: Predictions

    @cached_property
    def config(self) -> Config:
        """What was done."""
        return load_config(self.folder)

    @cached_property
    def classes(self) -> Classes:
        """Its classes, in the groups that its scores go by."""
        found, options = self.predictions, group_options(self.result["class_groups"])
        return Classes.grouped(found.class_names, found.class_counts, **options)

    @cached_property
    def per_class(self) -> Tensor:
        """Test accuracy of each class in percent, shape (C,); NaN for a class without a test image."""
        values = self.result["test"]["per_class"]
        return torch.tensor([float("nan") if value is None else value for value in values], dtype=torch.float64)

    def outputs(self, part: PartName) -> Outputs:
        """Logits and embeddings of a part of its data, computed from its checkpoint with the plain view of each image.

        Raises:
            InputError: if the data can not be found, or are no longer those of the run.
        """
        device = choose_device("auto")
        data = _data_of(self.config.data, device)
        if data.split.sha256 != self.result["split"]["sha256"]:
            raise InputError(
                f"{self.folder} was trained on other images than {self.config.data.name} now has; draw figures that "
                "need images from runs whose data are unchanged"
            )
        images = data.test if part == "test" else data.train
        model = Run(self.folder).model(device)
        with progress_bar(f"{self.label}: {part} images", len(images)) as bar:
            logits, embeddings = predict(model, images.images, bar.advance)
        return Outputs(logits, embeddings, images.targets)

    def logits(self, part: PartName) -> tuple[Tensor, Tensor]:
        """Logits (N, C) and labels (N,) of a part of its data; those of the test part as the run wrote them."""
        if part == "test" and self.predictions.logits is not None:
            return self.predictions.logits, self.predictions.targets
        found = self.outputs(part)
        return found.logits_NC, found.targets_N


@lru_cache(maxsize=1)  # the runs of one figure share their data
def _data_of(config: DataConfig, device: torch.device) -> Dataset:
    return load_data(config, device)


def read_runs(folders: Sequence[Path], labels: Sequence[str] | None = None) -> list[FinishedRun]:
    """Read finished runs, each with a name of its own.

    Args:
        folders: of the runs.
        labels: what to call them; by default by method, and where that is not enough by seed and folder too.

    Raises:
        InputError: if a folder holds no finished run, one is given twice, or the labels do not fit.
    """
    twice = sorted({str(folder) for folder in folders if [f.resolve() for f in folders].count(folder.resolve()) > 1})
    if twice:
        raise InputError(f"{twice[0]} is given twice; give each run once")
    if labels is not None and (len(labels) != len(folders) or len(set(labels)) < len(labels)):
        raise InputError(f"--labels takes {len(folders)} different names, one for each run, not {list(labels)}")
    runs = [_read_run(folder) for folder in folders]
    names = _distinct(runs) if labels is None else labels
    return [replace(run, label=name) for run, name in zip(runs, names, strict=True)]


def _read_run(folder: Path) -> FinishedRun:
    load_config(folder)  # refuses a folder that holds no run
    if not (folder / "result.json").is_file():
        raise not_finished(folder)
    result = read_result(folder / "result.json")
    missing = [key for key in NEEDED if key not in result]
    if missing:
        raise InputError(f"{folder / 'result.json'} lacks {', '.join(missing)}; give the folder of a run of longtail")
    return FinishedRun(folder, result["method"], result, read_predictions(folder))


def _distinct(runs: Sequence[FinishedRun]) -> list[str]:
    """Methods, and where two are alike what tells them apart."""
    ways: tuple[Callable[[FinishedRun], str], ...] = (
        lambda run: str(run.result["method"]),
        lambda run: f"{run.result['method']}, seed {run.result['seed']}",
        lambda run: f"{run.result['method']} ({run.folder.resolve().name})",
        lambda run: str(run.folder),
    )
    tried: list[list[str]] = [[way(run) for run in runs] for way in ways]
    return [
        next((names[place] for names in tried if names.count(names[place]) == 1), tried[-1][place])
        for place in range(len(runs))
    ]


def check_comparable(runs: Sequence[FinishedRun]) -> None:
    """Refuse to draw runs together whose numbers do not compare.

    Raises:
        InputError: if split, backbone, groups or the choice of the checkpoint differ, saying which.
    """
    facts: dict[str, Callable[[FinishedRun], object]] = {
        "training images (split)": lambda run: f"{run.result['split']['name']} {run.result['split']['sha256'][:12]}",
        "backbone": lambda run: _backbone(run.result["backbone"]),
        "checkpoint": lambda run: run.result["protocol"]["checkpoint"],
        "groups of classes": lambda run: dict(run.result["class_groups"]),
        "test labels": lambda run: (run.predictions.class_names, run.predictions.targets.tolist()),
    }
    first = runs[0]
    for run in runs[1:]:
        for what, fact in facts.items():
            if fact(run) != fact(first):
                seen = "" if what == "test labels" else f": {fact(first)} and {fact(run)}"
                raise InputError(
                    f"{first.folder} and {run.folder} differ in their {what}{seen}; such numbers do not compare, draw "
                    "them in two figures"
                )


def _backbone(described: Mapping[str, Any]) -> str:
    start = "pretrained" if described.get("pretrained") else "from scratch"
    return f"{described['name']} of width {described['width']}, {start}"


def warnings_of(runs: Sequence[FinishedRun]) -> str:
    """What a reader must know of the runs of a figure: a checkpoint chosen on the test set, trainings that differ."""
    notes = []
    if any(run.result["protocol"]["selected_on"] == "test" for run in runs):
        notes.append("checkpoint chosen on the test set")
    recipes = sorted({str(run.result["recipe"]) for run in runs})
    if len(recipes) > 1:
        notes.append(f"training recipes differ: {', '.join(recipes)}")
    lengths = list(dict.fromkeys(_length(run.config) for run in runs))
    if len(lengths) > 1:
        notes.append(f"lengths of training differ: {', '.join(lengths)}")
    return "; ".join(notes)


def _length(config: Config) -> str:
    """Of the first stage; those that follow are the method's own affair."""
    training = config.stages[0].training_settings()
    return "" if training is None else training.length


def by_seed(runs: Sequence[FinishedRun]) -> list[tuple[str, list[FinishedRun]]]:
    """Runs that differ in their seed alone, together under one name.

    Returns:
        Names and their runs, in the order in which each first appears.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        settings = {**to_mapping(run.config), "seed": None, "device": None}
        groups.setdefault(repr(settings), []).append(run)
    methods = [str(group[0].result["method"]) for group in groups.values()]
    named = []
    for group, method in zip(groups.values(), methods, strict=True):
        plain = len(group) > 1 and methods.count(method) == 1
        named.append((method if plain else group[0].label, group))
    return named
