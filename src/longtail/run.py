"""A whole run: data -> model -> stages -> scores -> the files of the run's folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtail import recipes, stages
from longtail.config import Config, to_mapping
from longtail.console import progress_bar
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, save_predictions
from longtail.files import write_json, write_text
from longtail.models.classifier import Classifier, build_classifier, restore_classifier
from longtail.result import describe_run
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context, stopping_on_signals
from longtail.training.log import RunLog
from longtail.training.predict import predict


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: where its files are.
        result: the content of `result.json`.
        scores: of the test part.
    """

    folder: Path
    result: dict[str, Any]
    scores: Scores


def fit(
    config: Config,
    folder: Path | str,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    loggers: Sequence[str] = (),
    command: str = "",
    report: bool = True,
) -> Run:
    """Train by a configuration, judge on the test part once, and write the run's folder.

    Args:
        config: what to do; `longtail.recipes.compose` makes one from names.
        folder: becomes the run: config.yaml, log.jsonl, checkpoint/, predictions.npz, result.json, report.html.
        data: the data set, if it is loaded already.
        resume: go on where a run in `folder` stopped; a folder without a run is begun anew.
        loggers: "tensorboard", "wandb".
        command: what the user typed, for the result.
        report: write report.html too; a sweep over many runs can do without.

    Raises:
        InputError: for bad input, a folder that holds another run, or a loss that is no longer finite.
        Interrupted: if the user asked to stop; the state is saved.

    Example:
        >>> import tempfile
        >>> config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 1}}])
        >>> run = fit(config, tempfile.mkdtemp())
        >>> run.result["split"]["images"]
        376
    """
    folder = Path(folder)
    device = choose_device(config.device)
    saved = _claim(folder, config, resume)
    data = data or load_data(config.data, device)
    if saved is not None and saved["split"] != data.split.sha256:
        raise InputError(f"the training images have changed since {folder} was begun; start again in another folder")
    model = build_classifier(config.model, data, config.seed).to(device)
    context = _context(config, folder, data, device, saved, loggers)
    with stopping_on_signals(context.stop):
        model = _run_stages(model, data, config, context)
    finished = _judge(model, data, config, context, folder, command)
    if report:
        from longtail.report import write_report  # matplotlib takes a second to import

        write_report(folder, data.test.images.thumbnail)
    return finished


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes an accelerator where there is one.

    Raises:
        InputError: if there is no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"there is no device {name!r} here ({str(error).splitlines()[0]}); use --device auto"
        ) from error
    return device


def load_config(folder: Path) -> Config:
    """The configuration of a run.

    Raises:
        InputError: if the folder holds no run.
    """
    if not (folder / "config.yaml").exists():
        raise InputError(f"{folder} holds no run (no config.yaml); give the folder that `longtail train` wrote")
    return recipes.typed(recipes.read_file(folder / "config.yaml"))


@dataclass(frozen=True)
class Trained:
    """What a finished run has learnt, ready to use.

    Args:
        model: in evaluation mode, on the device.
        class_names: in the order of the logits.
        image_size: side of the square it was trained on, in pixels.
    """

    model: Classifier
    class_names: tuple[str, ...]
    image_size: int


def load_trained(folder: Path, device: torch.device) -> Trained:
    """The trained model of a run; the data set is not needed.

    Raises:
        InputError: if the folder holds no finished run, or its checkpoint can not be read.
    """
    config = load_config(folder)
    saved = CheckpointStore(folder / "checkpoint").load()
    if saved is None or saved["stage"] < len(config.stages):
        raise InputError(f"the run in {folder} is not finished; go on with: longtail train --resume --out {folder}")
    model = restore_classifier(config.model, len(saved["class_names"]), saved)
    return Trained(model.to(device), tuple(saved["class_names"]), saved["image_size"])


def _claim(folder: Path, config: Config, resume: bool) -> dict[str, Any] | None:
    """Make the folder this run's, or find in it the checkpoint to go on from."""
    written = folder / "config.yaml"
    if written.exists():
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume, or choose another --out")
        _refuse_difference(to_mapping(load_config(folder)), to_mapping(config), folder)
        return CheckpointStore(folder / "checkpoint").load()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(written, recipes.to_yaml(config))
    except OSError as error:
        raise InputError(f"can not write into {folder}: {error.strerror or error}") from error
    return None


def _refuse_difference(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    """A checkpoint of another configuration must not be gone on from; where it runs does not matter."""
    flat_old, flat_new = _flat(old), _flat(new)
    free = {"device", "data.workers", "data.root"}
    keys = sorted((flat_old.keys() | flat_new.keys()) - free)
    changed = [
        f"  {key}: {flat_old.get(key)} -> {flat_new.get(key)}" for key in keys if flat_old.get(key) != flat_new.get(key)
    ]
    if changed:
        raise InputError(
            f"{folder} holds a run of another configuration:\n" + "\n".join(changed[:10]) + "\n"
            "resume it with the settings it was begun with, or choose another --out"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {
            name: leaf
            for key, item in items
            for name, leaf in _flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: value}


def _context(
    config: Config,
    folder: Path,
    data: Dataset,
    device: torch.device,
    saved: dict[str, Any] | None,
    loggers: Sequence[str],
) -> Context:
    saved = saved or {"stage": 0, "epoch": 0, "seconds": 0.0, "images": 0}
    return Context(
        seed=config.seed,
        stage=saved["stage"],
        split=data.split.sha256,
        device=device,
        store=CheckpointStore(folder / "checkpoint"),
        log=RunLog(folder / "log.jsonl", (saved["stage"], saved.get("epoch", 0)), loggers, to_mapping(config)),
        saved=saved if "model" in saved else None,
        watch="test" if config.protocol == "paper" else "val",
        seconds=saved["seconds"],
        images=saved["images"],
        chosen=saved.get("chosen", {}),
    )


def _run_stages(model: Classifier, data: Dataset, config: Config, context: Context) -> Classifier:
    if context.saved is not None:
        model.load_saved(context.saved, len(data.class_names))
    for index in range(context.stage, len(config.stages)):
        context.stage = index
        if context.saved is not None and "epoch" not in context.saved:
            context.saved = None  # the checkpoint closed the stage before
        model = stages.build(config.stages[index])(model, data, context)
        context.saved, context.stage = None, index + 1
        known = {"class_names": list(data.class_names), "image_size": data.test.images.size}
        weights = {"model": model.state_dict(), "head": to_mapping(model.head_component)}
        context.store.save({**context.place(), **known, **weights})
    return model.eval()


def _judge(model: Classifier, data: Dataset, config: Config, context: Context, folder: Path, command: str) -> Run:
    """Read the test part, once, and write what came of it."""
    with progress_bar("testing", len(data.test)) as bar:
        logits, _ = predict(model, data.test.images, bar.advance)
    counts = data.class_counts
    predictions = Predictions(data.test.targets, counts, logits=logits, class_names=data.class_names)
    scores = predictions.scores(many=config.many, few=config.few, groups=config.groups)
    result = describe_run(model, data, config, context, scores, command)
    save_predictions(folder / "predictions.npz", predictions)
    write_json(folder / "result.json", result)
    return Run(folder, result, scores)
