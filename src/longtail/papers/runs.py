"""Finished runs as figures take them: labeled, and refused where their numbers are not comparable.

Shapes: N = images, D = embedding dimension, C = classes.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from longtail._logging import progress_bar
from longtail.config.convert import to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError, unknown_name
from longtail.report.classes import Classes
from longtail.run.fit import choose_device
from longtail.run.run import Run
from longtail.training.predict import predict

PartName = Literal["test", "train"]
Runs = Mapping[str, Run]
"""Runs by their label in the figure."""
NEEDED = ("method", "recipe", "seed", "split", "backbone", "protocol", "class_groups", "test")
"""Keys of `result.json` that figures read."""


class Outputs(NamedTuple):
    """Outputs of a model for one split, on the CPU.

    Args:
        logits_NC: Logits, shape (N, C).
        embeddings_ND: Embeddings, the input of the head, shape (N, D).
        targets_N: True labels, shape (N,).
    """

    logits_NC: Tensor
    embeddings_ND: Tensor
    targets_N: Tensor


def read_runs(folders: Sequence[Path], labels: Sequence[str] | None = None) -> dict[str, Run]:
    """Read finished runs by label.

    Args:
        folders: Folders of the runs.
        labels: One label per run. Default: the method, with seed or folder where the method is not unique.

    Raises:
        InputError: If a folder holds no finished run, a folder is repeated, or the labels do not fit.
    """
    resolved = [folder.resolve() for folder in folders]
    repeated = sorted({str(folder) for folder in folders if resolved.count(folder.resolve()) > 1})
    if repeated:
        raise InputError(f"{repeated[0]} is given twice; give each run once")
    if labels is not None and (len(labels) != len(folders) or len(set(labels)) < len(labels)):
        raise InputError(f"`labels` must be {len(folders)} different names, one for each run, got {list(labels)}")
    runs = [_read_run(folder) for folder in folders]
    return dict(zip(_distinct(runs) if labels is None else labels, runs, strict=True))


def _read_run(folder: Path) -> Run:
    run = Run.load(folder)
    missing = [key for key in NEEDED if key not in run.result]
    if missing:
        raise InputError(f"{folder / 'result.json'} lacks {', '.join(missing)}; give the folder of a longtail run")
    return run


def _distinct(runs: Sequence[Run]) -> list[str]:
    """Return the method of each run, with seed or folder where the method is not unique."""
    ways: tuple[Callable[[Run], str], ...] = (
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


def first_of(runs: Runs) -> Run:
    """Return the first run."""
    return next(iter(runs.values()))


def classes_of(run: Run) -> Classes:
    """Return the classes of a run, in the groups of its scores."""
    found = run.predictions()
    return Classes.grouped(found.class_names, found.class_counts, **run.groups)


def outputs_of(run: Run, part: PartName) -> Outputs:
    """Compute logits and embeddings of a split from the checkpoint, with the plain view of each image.

    Args:
        run: Finished run.
        part: "test" or "train".

    Raises:
        InputError: If the data cannot be found, or have changed since the run.
    """
    device = choose_device("auto")
    data = _data_of(run.config.data, device)
    if data.split.sha256 != run.result["split"]["sha256"]:
        raise InputError(
            f"{run.folder} was trained on other images than {run.config.data.name} has now; this figure needs runs "
            "whose data are unchanged"
        )
    images = data.test if part == "test" else data.train
    with progress_bar(f"{run.folder.name}: {part} images", len(images), images_per_unit=1) as bar:
        logits, embeddings = predict(run.model(device), images.images, bar.advance)
    return Outputs(logits, embeddings, images.targets)


def logits_of(run: Run, part: PartName) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and labels (N,) of a split. Test logits are read from the run if it saved them."""
    saved = run.predictions()
    if part == "test" and saved.logits is not None:
        return saved.logits, saved.targets
    found = outputs_of(run, part)
    return found.logits_NC, found.targets_N


@lru_cache(maxsize=1)  # the runs of one figure share their data
def _data_of(config: DataConfig, device: torch.device) -> Dataset:
    return load_data(config, device)


def labels_of(names: Sequence[str], classes: Classes) -> list[int]:
    """Return the labels of classes by their names.

    Args:
        names: Names of classes.
        classes: All classes.

    Raises:
        InputError: If a class is unknown or repeated.

    Example:
        >>> labels_of(["eel", "cat"], Classes.grouped(("cat", "dog", "eel"), torch.tensor([300, 50, 5])))
        [2, 0]
    """
    for name in names:
        if name not in classes.names:
            raise unknown_name("class", name, classes.names)
    if len(set(names)) < len(names):
        raise InputError(f"each class can be given once, got {', '.join(names)}")
    return [classes.names.index(name) for name in names]


def check_comparable(runs: Runs) -> None:
    """Refuse runs whose numbers are not comparable.

    Raises:
        InputError: If split, backbone, groups, test labels or the choice of the checkpoint differ.
    """
    facts: dict[str, Callable[[Run], object]] = {
        "training images (split)": lambda run: f"{run.result['split']['name']} {run.result['split']['sha256'][:12]}",
        "backbone": lambda run: _backbone(run.result["backbone"]),
        "checkpoint": lambda run: run.result["protocol"]["checkpoint"],
        "groups of classes": lambda run: dict(run.result["class_groups"]),
        "test labels": lambda run: (run.predictions().class_names, run.predictions().targets.tolist()),
    }
    first, *others = runs.values()
    for run in others:
        for what, fact in facts.items():
            if fact(run) != fact(first):
                values = "" if what == "test labels" else f": {fact(first)} and {fact(run)}"
                raise InputError(
                    f"{first.folder} and {run.folder} differ in their {what}{values}; such numbers are not "
                    "comparable, draw two figures"
                )


def _backbone(described: Mapping[str, Any]) -> str:
    start = "pretrained" if described.get("pretrained") else "from scratch"
    return f"{described['name']} of width {described['width']}, {start}"


def note_of(runs: Runs, *parts: str) -> str:
    """Return the note below a figure: the given parts, and warnings about the runs.

    The warnings name a checkpoint chosen on the test set, and recipes or training lengths that differ.

    Args:
        runs: Runs of the figure.
        parts: First parts of the note. Empty ones are dropped.
    """
    notes = [*parts]
    if any(run.result["protocol"]["selected_on"] == "test" for run in runs.values()):
        notes.append("checkpoint chosen on the test set")
    recipes = sorted({str(run.result["recipe"]) for run in runs.values()})
    if len(recipes) > 1:
        notes.append(f"training recipes differ: {', '.join(recipes)}")
    lengths = list(dict.fromkeys(_length(run.config) for run in runs.values()))
    if len(lengths) > 1:
        notes.append(f"training lengths differ: {', '.join(lengths)}")
    return "; ".join(filter(None, notes))


def _length(config: Config) -> str:
    """Return the length of the first stage. Later stages are part of the method."""
    training = config.stages[0].training_settings()
    return "" if training is None else training.length


def by_seed(runs: Runs) -> dict[str, list[Run]]:
    """Group runs that differ only in their seed.

    Args:
        runs: Runs of a figure.

    Returns:
        Runs by the name of the group: the method if that is unique, else the label of the first run.

    Raises:
        InputError: If two groups have the same name.
    """
    groups: dict[str, list[tuple[str, Run]]] = {}
    for label, run in runs.items():
        groups.setdefault(settings_key(run), []).append((label, run))
    methods = [str(group[0][1].result["method"]) for group in groups.values()]
    named: dict[str, list[Run]] = {}
    for group, method in zip(groups.values(), methods, strict=True):
        name = method if len(group) > 1 and methods.count(method) == 1 else group[0][0]
        if name in named:
            raise InputError(f"two methods have the name {name}; give each run a different label")
        named[name] = [run for _, run in group]
    return named


def settings_key(run: Run) -> str:
    """Return a text that is the same for runs that differ only in seed and device."""
    return repr({**to_mapping(run.config), "seed": None, "device": None})
