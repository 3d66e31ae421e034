"""Cross-validation: the runs of the folds, and their out-of-fold predictions as one result.

Shapes: N = tested images.
"""

from collections.abc import Sequence
from typing import Any

import torch

from longtail.config.convert import to_mapping
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.evaluation import Predictions, Scores, paired_bootstrap
from longtail.run.run import Run


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


def describe_folds(
    runs: Sequence[Run], data: Dataset, predictions: Predictions, scores: Scores, command: str
) -> dict[str, Any]:
    """Return the content of `result.json`: that of the first fold, with what holds for all of them.

    Args:
        runs: Finished runs, one per fold.
        data: Data set whose test split has the images of all folds.
        predictions: Their out-of-fold predictions, see `pool`.
        scores: Scores of these predictions.
        command: Command of the user.
    """
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
