"""A whole run: data -> model -> stages -> scores -> the files of the run's folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtail import stages
from longtail._io import write_json
from longtail._logging import console, progress_bar
from longtail.config.convert import to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.formats.feature_dataset import thumbnails_of
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, save_predictions
from longtail.models.classifier import Classifier, build_classifier, restore_classifier
from longtail.run.folder import checkpoint_to_go_on_from, claimed, load_config, not_finished, refuse_other_data
from longtail.run.on_features import check_features
from longtail.run.result import describe_run
from longtail.stages.guard import balanced_twice
from longtail.training.checkpoint import CheckpointStore
from longtail.training.context import Context, stopping_on_signals
from longtail.training.log import RunLog, check_loggers
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
    start: Path | str | None = None,
    loggers: Sequence[str] = (),
    command: str = "",
    report: bool = True,
) -> Run:
    """Train by a configuration, judge on the test part once, and write the run's folder.

    Args:
        config: what to do; `longtail.config.recipes.compose` makes one from names.
        folder: becomes the run: config.yaml, log.jsonl, checkpoint/, predictions.npz, result.json, report.html.
        data: the data set, if it is loaded already.
        resume: go on where a run in `folder` stopped; a folder without a run is begun anew.
        start: a finished run that did the first stages of this one already: they are taken over.
        loggers: "tensorboard", "wandb".
        command: what the user typed, for the result.
        report: write report.html too; a sweep over many runs can do without.

    Raises:
        InputError: for bad input, a folder that holds another run, or a loss that is no longer finite.
        Interrupted: if the user asked to stop; the state is saved.

    Example:
        >>> import tempfile
        >>> from longtail.config import recipes
        >>> config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 1}}])
        >>> run = fit(config, tempfile.mkdtemp())
        >>> run.result["split"]["images"]
        376
    """
    folder = Path(folder)
    device = choose_device(config.device)
    check_loggers(loggers)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    saved = checkpoint_to_go_on_from(folder, config, resume, None if start is None else Path(start))
    data = data or load_data(config.data, device)
    refuse_other_data(saved, data)
    for note in data.load_report.notes:
        console.print(f"note: {note}")
    _look_ahead(config, data)
    model = build_classifier(config.model, data, config.seed).to(device)
    with claimed(folder, config):  # only now: what is refused above leaves nothing behind
        context = _context(config, folder, data, device, saved, loggers)
        with stopping_on_signals(context.stop):
            model = _run_stages(model, data, config, context)
        finished = _judge(model, data, config, context, folder, command)
        if report:
            from longtail.report import write_report  # matplotlib takes a second to import

            write_report(folder, thumbnails_of(data.test.images))
    return finished


def _look_ahead(config: Config, data: Dataset) -> None:
    """Refuse and warn before the first stage, not after hours of training."""
    check_features(config, data)
    head = config.model.head
    for stage in config.stages:
        head = stages.build(stage).check(data, head)
    for warning in balanced_twice(config.stages):
        console.print(f"warning: {warning}")


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
        raise not_finished(folder)
    model = restore_classifier(config.model, len(saved["class_names"]), saved)
    return Trained(model.to(device), tuple(saved["class_names"]), saved["image_size"])


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
    predictions = Predictions(data.test.targets, data.group_counts, logits=logits, class_names=data.class_names)
    scores = predictions.scores(many=config.many, few=config.few, groups=config.groups)
    result = describe_run(model, data, config, context, scores, command)
    save_predictions(folder / "predictions.npz", predictions)
    write_json(folder / "result.json", result)
    return Run(folder, result, scores)
