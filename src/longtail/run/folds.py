"""Cross-validation: one run per fold, and the out-of-fold predictions of all of them as one result.

Shapes: N = tested images.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from longtail._io import write_json
from longtail.config.convert import to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, paired_bootstrap, save_predictions
from longtail.evaluation.table import save_table
from longtail.run.fit import choose_device, fit, write_run_report
from longtail.run.folder import already_taken, check_place, load_config, refuse_other_settings, run_lock
from longtail.run.run import Run
from longtail.training.sinks import Sink

logger = logging.getLogger("longtail")


def is_cross_validation(config: Config) -> bool:
    """Return whether a configuration stands for the runs of all folds."""
    return config.data.folds is not None and config.data.fold is None


def fold_config(config: Config, fold: int) -> Config:
    """Return the configuration of the run that tests one fold."""
    return replace(config, data=replace(config.data, fold=fold))


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the folder of the run that tests one fold."""
    return folder / f"fold{fold}"


def fit_folds(
    config: Config,
    folder: Path,
    *,
    data: Dataset | None = None,
    resume: bool = False,
    loggers: Sequence[str | Sink] = (),
    command: str = "",
    report: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> Run:
    """Train one model per fold, in folders below `folder`, and score their out-of-fold predictions together.

    Arguments, errors and the result are those of `longtail.run.fit.fit`; a finished fold is not repeated if `resume` is
    set. The class counts of the predictions are those of all images, of which each model is trained on the other folds.
    """
    check_place(folder, config)
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
            runs.append(
                fit(own, place, resume=resume, loggers=loggers, command=command, report=report, on_start=on_start)
            )
            on_start = _nothing
        pooled = data or load_data(config.data, choose_device(config.device))
        predictions = pool(runs, pooled)
        scores = predictions.scores(many=config.many, few=config.few, groups=config.groups)
        save_predictions(folder / "predictions.npz", predictions)
        save_table(folder / "predictions.csv", predictions)
        write_json(folder / "result.json", _result(runs, pooled, predictions, scores, command))
    run = Run(folder)
    run.scores = scores
    if report:
        write_run_report(run, pooled)
    return run


def _nothing() -> None:
    pass


def pool(runs: Sequence[Run], data: Dataset) -> Predictions:
    """Return the predictions of each fold as those of one test split, in the order of the data set.

    Args:
        runs: Finished runs, one per fold.
        data: Data set whose test split has the images of all folds.

    Raises:
        InputError: If the images of the runs are not those of the data set.
    """
    found = [run.predictions() for run in runs]
    row_of: dict[str, int] = {}
    for each in found:
        row_of.update({path: len(row_of) + index for index, path in enumerate(each.paths or ())})
    paths = data.test.paths or ()
    if row_of.keys() != set(paths):
        raise InputError("the images of the folds are not those of the data set; train again into another folder")
    order_N = torch.tensor([row_of[path] for path in paths])
    logits = [each.logits for each in found if each.logits is not None]
    return Predictions(
        data.test.targets,
        data.group_counts,
        logits=torch.cat(logits)[order_N],
        class_names=data.class_names,
        paths=paths,
    )


def _result(
    runs: Sequence[Run], data: Dataset, predictions: Predictions, scores: Scores, command: str
) -> dict[str, Any]:
    """Return the content of `result.json`: that of the first fold, with what holds for all of them."""
    first = runs[0].result
    untested = len(data.train) + (len(data.val or ()) if data.val_from_train else 0) - len(predictions)
    notes = [
        f"The test images are those of {len(runs)} folds, each predicted by a model that was trained on the others."
    ]
    if untested:
        notes.append(f"{untested:,} images of classes with a single image or group are never tested.")
    seconds = sum(run.result["cost"]["seconds"] for run in runs)
    right_N = (predictions.predicted == predictions.targets).int()
    weights_N = 1 / predictions.targets.bincount()[predictions.targets]
    found = paired_bootstrap(right_N[None].numpy(), torch.zeros_like(right_N)[None].numpy(), weights_N.numpy())
    return {
        **first,
        "split": to_mapping(data.split),
        "test": scores.to_dict(),
        "folds": {
            "number": len(runs),
            "balanced_interval": [round(found.low, 2), round(found.high, 2)],
            "balanced": [run.result["test"]["balanced"] for run in runs],
        },
        "cost": {**first["cost"], "seconds": round(seconds, 2)},
        "notes": [*notes, *data.load_report.notes],
        "command": command,
    }
