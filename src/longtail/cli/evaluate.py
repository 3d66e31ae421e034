"""`longtail evaluate`: score a run, or predictions of any tool."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from longtail._numbers import parse_number
from longtail._threads import prepare
from longtail.cli._options import GroupOptions, Threads, given_of
from longtail.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from longtail.evaluation import Predictions

Target = Annotated[Path, Parameter(metavar="RUN_OR_FILE")]
Counts = Annotated[str | None, Parameter(metavar="FILE")]


def main(
    target: Target,
    /,
    *,
    counts: Counts = None,
    test_prior: Annotated[str | None, Parameter(metavar="PRIOR")] = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    groups: GroupOptions = GroupOptions(),
    threads: Threads = None,
) -> None:
    """Evaluate a run, or predictions that any tool wrote (CSV or NPZ).

    Args:
        target: Folder of a run, or a CSV or NPZ file of predictions.
        counts: File with the training images per class, if the predictions lack them.
        test_prior: Evaluate under other class frequencies: uniform, train, forward-K or backward-K.
        as_json: Print JSON, with the scores of every class.
        groups: Options of the groups of classes.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail evaluate runs/first
        longtail evaluate runs/first --test-prior backward-50
        longtail evaluate predictions.csv --counts counts.csv
    """
    from longtail.cli._output import out

    prepare(threads)
    predictions, options = load_predictions(target, counts, given_of(groups))
    prior = None if test_prior is None else _prior(test_prior, predictions)
    scores = predictions.scores(**options, prior=prior)
    if as_json:
        names = {"class_names": list(predictions.class_names), "test_images": len(predictions)}
        out.print_json(json.dumps({**scores.to_dict(), **names, "test_prior": test_prior}))
        return
    from longtail.report import scores_table

    out.print(scores_table({target.name: scores}))


def load_predictions(
    target: Path, counts: str | None, groups: Mapping[str, Any]
) -> tuple["Predictions", dict[str, Any]]:
    """Return the predictions of a run or file, and the options by which its classes are grouped.

    Args:
        target: Folder of a run, or a file of predictions.
        counts: File with the training images per class; None if the predictions bring them.
        groups: Options given by the user. They replace those of the run.

    Raises:
        InputError: If the target cannot be read, or the run is not finished.
    """
    from longtail.evaluation import merged_groups, read_predictions
    from longtail.run import Run

    if not target.is_dir():
        return read_predictions(target, counts), merged_groups({}, groups)
    run = Run.load(target)
    predictions = run.predictions() if counts is None else read_predictions(target / "predictions.npz", counts)
    return predictions, merged_groups(run.groups, groups)


def _prior(name: str, predictions: "Predictions") -> "Tensor":
    import torch

    from longtail.data.counts import ClassCounts
    from longtail.evaluation import long_tailed_prior

    counts = ClassCounts(predictions.class_counts)
    direction, _, factor = name.partition("-")
    if name == "uniform":
        return torch.full((len(counts),), 1 / len(counts))
    if name == "train":
        return counts.prior
    try:
        if direction in ("forward", "backward"):
            return long_tailed_prior(counts, parse_number(factor), "forward" if direction == "forward" else "backward")
    except InputError:
        raise
    except ValueError:  # the factor is not a number
        pass
    raise InputError(
        f"`--test-prior` must be uniform, train, forward-K or backward-K (forward-50, for example), got {name!r}"
    )
