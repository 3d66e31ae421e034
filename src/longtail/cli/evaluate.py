"""`longtail evaluate`: score a run, or predictions of any tool."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from longtail._threads import prepare
from longtail.cli._options import File, GroupOptions, Number, Threads, given_of
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
    against: File = None,
    counts: Counts = None,
    test_prior: Annotated[str | None, Parameter(metavar="PRIOR")] = None,
    model_prior: Literal["auto", "train", "uniform"] | None = None,
    recall_at_false_alarm: Number = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    groups: GroupOptions = GroupOptions(),
    threads: Threads = None,
) -> None:
    """Evaluate a run, or predictions that any tool wrote (CSV or NPZ; detections in a COCO result file).

    Args:
        target: Folder of a run, a CSV or NPZ file of predictions, or a COCO result file of detections (JSON).
        against: Annotations of the detections: a COCO or LVIS file, or a folder with annotations.
        counts: File with the training images per class, if the predictions lack them. For detections: annotations of
            the training images, which group the classes into rare, common and frequent.
        test_prior: Evaluate under other class frequencies: uniform, train, forward-K, backward-K, or a file with
            counts per class.
        model_prior: Also shift the logits to these frequencies, from those that the model assumes: train, uniform, or
            those of the run (auto).
        recall_at_false_alarm: Also print, for each class, the recall and the threshold of its probability at this rate
            of false alarms, such as 0.01, and the average precision.
        as_json: Print JSON, with the scores of every class.
        groups: Options of the groups of classes.
        threads: Threads for computing. Default: the cores that are available and free, or $OMP_NUM_THREADS.

    Examples:
        longtail evaluate runs/first
        longtail evaluate runs/first --test-prior backward-50
        longtail evaluate predictions.csv --counts counts.csv
        longtail evaluate detections.json --against instances_val.json
    """
    from longtail.cli._output import out

    prepare(threads)
    if against is not None:
        _evaluate_detections(target, against, counts, as_json)
        return
    predictions, options = load_predictions(target, counts, given_of(groups))
    prior = None if test_prior is None else _prior(test_prior, predictions)
    if model_prior is not None:
        predictions = _shifted(predictions, target, model_prior, prior)
    scores = predictions.scores(**options, prior=prior)
    points = [] if recall_at_false_alarm is None else _operating_points(predictions, recall_at_false_alarm)
    if as_json:
        names: dict[str, Any] = {"operating_points": points} if points else {}
        names |= {"class_names": list(predictions.class_names), "test_images": len(predictions)}
        out.print_json(json.dumps({**scores.to_dict(), **names, "test_prior": test_prior}))
        return
    from longtail.report import scores_table

    out.print(scores_table({target.name: scores}))
    for point in points:
        out.print(
            f"{point['class']}: recall {100 * point['recall']:.1f} % at {100 * point['false_alarm']:.2f} % false "
            f"alarms, from a probability of {_threshold(point)}; average precision {point['average_precision']:.3f}"
        )


def _threshold(point: Mapping[str, Any]) -> str:
    return "none" if point["threshold"] is None else f"{point['threshold']:.4g}"


def _operating_points(predictions: "Predictions", rate: float) -> list[dict[str, Any]]:
    """Return recall, threshold and average precision of each class with test images."""
    from dataclasses import asdict

    from longtail.evaluation.curves import precision_recall, recall_at_false_alarm

    if predictions.logits is None:
        raise InputError("`--recall-at-false-alarm` needs logits or probabilities, and there are labels only")
    probabilities_NC = predictions.logits.softmax(1)
    points = []
    for label in predictions.targets.unique().tolist():  # type: ignore[no-untyped-call]
        own_N, positive_N = probabilities_NC[:, label], predictions.targets == label
        found = {"class": predictions.class_names[label], **asdict(recall_at_false_alarm(own_N, positive_N, rate))}
        if found["threshold"] == float("inf"):
            found["threshold"] = None  # JSON has no infinity
        points.append({**found, "average_precision": precision_recall(own_N, positive_N).average_precision})
    return points


def _evaluate_detections(target: Path, against: Path, train: str | None, as_json: bool) -> None:
    from longtail.cli._output import out
    from longtail.detection import evaluate_detections, read_annotations, read_results, use_groups_of
    from longtail.report.detection import detection_table

    dataset = read_annotations(against, need_images=False)
    if train is not None:
        use_groups_of(dataset, read_annotations(train, need_images=False))
    scores = evaluate_detections(read_results(target, dataset), dataset)
    if as_json:
        names = {"class_names": dataset.categories, "groups": dataset.groups, "test_images": len(dataset)}
        out.print_json(json.dumps({**scores.to_dict(), **names}))
        return
    out.print(detection_table({target.name: scores}))


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
    from longtail.data.counts import ClassCounts
    from longtail.run.priors import named_prior

    return named_prior(name, ClassCounts(predictions.class_counts), predictions.class_names)


def _shifted(predictions: "Predictions", target: Path, name: str, prior: "Tensor | None") -> "Predictions":
    """Return predictions whose logits are shifted from the prior of the model to the test prior."""
    from longtail.evaluation import Predictions, adjust_to_prior
    from longtail.run import Run

    if prior is None or predictions.logits is None:
        reason = "`--test-prior`, the prior to shift to" if prior is None else "logits, and the file has only labels"
        raise InputError(f"`--model-prior` needs {reason}")
    if name == "auto" and not target.is_dir():
        raise InputError(
            "`--model-prior auto` needs a run, whose method implies the prior; for a file use train or uniform"
        )
    assumed = Run.load(target).model_prior if name == "auto" else _prior(name, predictions)
    logits_NC, names = adjust_to_prior(predictions.logits, assumed, prior), predictions.class_names
    return Predictions(predictions.targets, predictions.class_counts, logits=logits_NC, class_names=names)
