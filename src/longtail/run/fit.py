"""A whole run: data -> model -> stages -> scores -> the files of the run folder."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from longtail import _threads
from longtail._io import write_json
from longtail._logging import progress_bar
from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import Config
from longtail.config.stage import PreparedStage
from longtail.data.dataset import Dataset
from longtail.data.formats.feature_dataset import thumbnails_of
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, save_predictions
from longtail.evaluation.table import save_table
from longtail.models.base import check_output
from longtail.models.classifier import Classifier, build_classifier
from longtail.run.estimate import log_estimate
from longtail.run.folder import (
    already_taken,
    check_place,
    fold_config,
    fold_folder,
    is_cross_validation,
    load_config,
    refuse_other_data,
    refuse_other_settings,
    run_lock,
    starting_checkpoint,
)
from longtail.run.folds import describe_folds, pool
from longtail.run.recommend import check_features
from longtail.run.result import describe_run, stage_warnings
from longtail.run.run import Run
from longtail.training.checkpoint import CheckpointStore, applying
from longtail.training.context import Context, stopping_on_signals
from longtail.training.engine import check_engine
from longtail.training.log import RunLog
from longtail.training.predict import predict
from longtail.training.sinks import Sink, check_loggers

logger = logging.getLogger("longtail")


def fit(
    config: Config,
    folder: Path | str,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    start: Path | str | None = None,
    loggers: Sequence[str | Sink] = (),
    command: str = "",
    report: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> Run:
    """Train by a configuration, evaluate once on the test split, and write the run folder.

    Args:
        config: Configuration; `longtail.config.recipes.compose` makes one from names.
        folder: Run folder. It receives config.yaml, log.jsonl, checkpoint/, predictions.npz, predictions.csv,
            result.json and report.html.
        data: Data set, if it is loaded already.
        resume: Continue an interrupted run in `folder`. A folder without a run starts a new one.
        start: Finished run whose stages are the first ones of this run. They are not repeated.
        loggers: Experiment trackers: "tensorboard", "wandb", "mlflow", "trackio", or a `longtail.training.sinks.Sink`.
        command: Command of the user, for the result.
        report: Write report.html too. A sweep over many runs can skip it.
        on_start: Called after all checks, before the run folder is created.

    Returns:
        The finished run.

    Raises:
        InputError: For invalid input, a folder that holds another run, or a loss that is not finite.
        Interrupted: If the user asked to stop. The state is saved.

    Example:
        >>> import tempfile
        >>> from longtail.config import recipes
        >>> config = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 1}}])
        >>> run = fit(config, tempfile.mkdtemp())
        >>> run.result["split"]["images"]
        376
    """
    folder = Path(folder)
    if is_cross_validation(config):
        if start is not None:
            raise InputError("`start` has no effect on cross-validation (`folds`); leave one of them out")
        options: dict[str, Any] = {"resume": resume, "loggers": loggers, "command": command, "report": report}
        return _fit_folds(config, folder, data, on_start, options)
    device = choose_device(config.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ready = check_run(config, folder, data=data, resume=resume, start=start, loggers=loggers)
    saved, data, model, stages = ready.saved, ready.data, ready.model, ready.stages
    on_start()
    for note in data.load_report.notes:
        logger.info("note: %s", note)
    for warning in stage_warnings(config):
        logger.warning(warning)
    with run_lock(folder, config, resume):  # only now, so that invalid input leaves nothing behind
        context = _context(config, folder, data, device, saved, loggers)
        with context.log:
            with stopping_on_signals(context.stop):
                model = _run_stages(stages, model, data, context)
            scores = _evaluate(model, data, config, context, folder, command)
            run = Run(folder)
            run.scores = scores  # spares reading and scoring the predictions again
            context.log.finish(run.result, write_run_report(run, data) if report else None)
    return run


def _fit_folds(
    config: Config, folder: Path, data: Dataset | None, on_start: Callable[[], None], options: Mapping[str, Any]
) -> Run:
    """Train one model per fold, in folders below `folder`, and score their out-of-fold predictions together.

    A finished fold is not repeated if `resume` is set. The class counts of the predictions are those of all images, of
    which each model is trained on the other folds.
    """
    check_place(folder, config)
    resume: bool = options["resume"]
    if (folder / "config.yaml").exists():
        if not resume:
            raise already_taken(folder)
        refuse_other_settings(folder, config)
    count = config.data.folds or 0
    runs = []
    with run_lock(folder, config, resume):
        for fold in range(count):
            own, place = fold_config(config, fold), fold_folder(folder, fold)
            if resume and (place / "result.json").exists() and load_config(place) == own:
                runs.append(Run.load(place))
                continue
            logger.info("fold %d of %d -> %s", fold, count, place)
            runs.append(fit(own, place, on_start=on_start, **options))
            on_start = _nothing
        pooled = data or load_data(config.data, choose_device(config.device))
        predictions = pool(runs, pooled)
        scores = _save_scored(predictions, config, folder)
        write_json(folder / "result.json", describe_folds(runs, pooled, predictions, scores, options["command"]))
    run = Run(folder)
    run.scores = scores
    if options["report"]:
        write_run_report(run, pooled)
    return run


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class PreparedRun:
    """A run whose input is checked.

    Args:
        saved: Checkpoint to start from, if any.
        data: Data set.
        model: Model on its device, before the first stage.
        stages: Stages with their components.
    """

    saved: dict[str, Any] | None
    data: Dataset
    model: Classifier
    stages: list[PreparedStage]


def check_run(
    config: Config,
    folder: Path,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    start: Path | str | None = None,
    loggers: Sequence[str | Sink] = (),
) -> PreparedRun:
    """Check everything that can be known before the training. Arguments and errors are those of `fit`."""
    if is_cross_validation(config):  # the folds differ in their images only
        config, folder, data = fold_config(config, 0), fold_folder(folder, 0), None
    device = choose_device(config.device)
    check_loggers(loggers)
    check_engine(config.engine, device)
    check_place(folder, config)
    saved = starting_checkpoint(folder, config, resume, None if start is None else Path(start))
    _use_threads_of(saved if resume else None)
    data = data or load_data(config.data, device)
    refuse_other_data(saved, data)
    check_features(config, data)
    model = build_classifier(config.model, data, config.seed).to(device)
    if model.backbone.takes_images:
        check_output(model.backbone, data.test.images.size)
    return PreparedRun(saved, data, model, prepare_stages(config, data, model))


def _use_threads_of(saved: dict[str, Any] | None) -> None:
    """Compute with the number of threads of the checkpoint, or note the difference if the user set another one."""
    now = _threads.follow((saved or {}).get("threads"))
    if saved is not None and now is not None:
        logger.info(
            "note: resumed with %d threads instead of %d; the last bits of the result can differ", now, saved["threads"]
        )


def prepare_stages(config: Config, data: Dataset, model: Classifier) -> list[PreparedStage]:
    """Build the components of all stages, so that an invalid option fails before the run folder is created.

    Args:
        config: Configuration.
        data: Data set.
        model: Model that the first stage will receive.

    Raises:
        InputError: If a stage cannot run on this model or these data.
    """
    head: Component = config.model.head
    prepared = []
    for stage in config.stages:
        prepared.append(stage.prepare(model, data, head))
        head = prepared[-1].head
    return prepared


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes an accelerator if there is one.

    Raises:
        InputError: If this machine has no such device.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f'`device` must be a device of this machine or "auto", got {name!r} ({reason})') from error
    return device


def write_run_report(run: Run, data: Dataset) -> Path | None:
    """Write the report and return its path. The run is complete without it, so an error is logged.

    Args:
        run: Finished run.
        data: Its data set.

    Returns:
        Path of the report, or None if it could not be written.
    """
    try:
        from longtail.report import write_report  # matplotlib takes a second to import

        return write_report(run, thumbnails_of(data.test.images))
    except Exception as error:
        logger.error("the report is not written: %s; write it with: longtail report %s", error, run.folder)
        logger.debug("report", exc_info=True)
        return None


def _context(
    config: Config,
    folder: Path,
    data: Dataset,
    device: torch.device,
    saved: dict[str, Any] | None,
    loggers: Sequence[str | Sink],
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
        compute=saved.get("compute", {}),
        engine=config.engine,
        estimate=partial(log_estimate, config, data),
        checkpoint_seconds=config.checkpoint_seconds,
    )


def _run_stages(stages: Sequence[PreparedStage], model: Classifier, data: Dataset, context: Context) -> Classifier:
    if context.saved is not None:
        with applying(context.saved):
            model.load_saved(context.saved, len(data.class_names))
    for index in range(context.stage, len(stages)):
        context.stage = index
        if context.saved is not None and "epoch" not in context.saved:
            context.saved = None  # the checkpoint closed the stage before
        model = stages[index].run(model, context)
        context.saved, context.stage = None, index + 1
        known = {"class_names": list(data.class_names), "image_size": data.test.images.size}
        seen: dict[str, Any] = {} if data.bits is None else {"bits": data.bits}
        if data.resize != "crop":
            seen["resize"] = data.resize
        weights = {"model": model.state_dict(), **model.structure()}
        context.store.save({**context.place(), **known, **seen, **weights})
    return model.eval()


def _evaluate(model: Classifier, data: Dataset, config: Config, context: Context, folder: Path, command: str) -> Scores:
    """Evaluate on the test split, once, write the predictions and the result, and return the scores."""
    with progress_bar("testing", len(data.test), images_per_unit=1) as bar:
        logits, _ = predict(model, data.test.images, bar.advance)
    predictions = Predictions(
        data.test.targets, data.group_counts, logits=logits, class_names=data.class_names, paths=data.test.paths
    )
    scores = _save_scored(predictions, config, folder)
    write_json(folder / "result.json", describe_run(model, data, config, context, scores, command))
    return scores


def _save_scored(predictions: Predictions, config: Config, folder: Path) -> Scores:
    """Score predictions, write them as arrays and as a table, and return the scores."""
    scores = predictions.scores(many=config.many, few=config.few, groups=config.groups)
    save_predictions(folder / "predictions.npz", predictions)
    save_table(folder / "predictions.csv", predictions)
    return scores
