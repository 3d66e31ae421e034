"""What `evaluate`, `report` and `predict` do, once their arguments are read."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from longtail._io import write_text
from longtail._logging import console, progress_bar
from longtail.commands.output import out, refuse_unwritable
from longtail.data.counts import ClassCounts
from longtail.data.formats.feature_dataset import thumbnails_of
from longtail.data.load import load_data
from longtail.data.loose import bad_images, find_images
from longtail.data.stream import StreamedImages
from longtail.errors import InputError
from longtail.evaluation import Predictions, long_tailed_prior, read_predictions
from longtail.run.fit import choose_device
from longtail.run.folder import load_config, not_finished
from longtail.run.run import Run
from longtail.training.predict import predict as predict_images


def evaluate(
    *, target: Path, counts: str | None, test_prior: str | None, groups: Mapping[str, Any], as_json: bool
) -> None:
    """Score a run, or predictions that any tool wrote."""
    predictions, options = _predictions(target, counts, groups)
    prior = None if test_prior is None else _prior(test_prior, predictions)
    scores = predictions.scores(**options, prior=prior)
    if as_json:
        about = {
            "class_names": list(predictions.class_names),
            "test_images": len(predictions),
            "test_prior": test_prior,
        }
        out.print_json(json.dumps({**scores.to_dict(), **about}))
        return
    from longtail.report import scores_table

    out.print(scores_table({target.name: scores}))


def report(*, target: Path, counts: str | None, output: Path | None, groups: Mapping[str, Any]) -> None:
    """Write the HTML page of a run, or of predictions that any tool wrote."""
    from longtail.report import write_report, write_report_for

    if not target.is_dir():
        predictions, options = _predictions(target, counts, groups)
        page = output or target.with_suffix(".html")
        write_report_for(predictions, predictions.scores(**options), page, target.name, **options)
        out.print(f"report: {page}")
        return
    config = load_config(target)
    try:
        thumbnail = thumbnails_of(load_data(config.data, choose_device("cpu")).test.images)
    except InputError as error:
        console.print(f"without example images, as the data can not be read: {error}")
        thumbnail = None
    out.print(f"report: {write_report(target, thumbnail, output)}")


def predict(*, run: Path, images: Sequence[Path], output: Path, on_bad_image: str, device: str) -> None:
    """Classify images with a trained run; writes path, class, probability and the five likeliest classes."""
    refuse_unwritable(output)
    where = choose_device(device)
    trained = Run(run).trained(where)
    found = find_images(images)
    bad = {} if on_bad_image == "fail" else bad_images(found)
    for path, reason in bad.items():
        console.print(f"left out: {path}: {reason}")
    paths = [path for path in found if path not in bad]
    if not paths:
        raise InputError(f"none of the {len(found)} images can be read")
    with progress_bar("classifying", len(paths)) as bar:
        source = StreamedImages(paths, trained.image_size, device=where)
        logits, _ = predict_images(trained.model, source, bar.advance)
    top = logits.softmax(dim=1).topk(min(5, logits.shape[1]), dim=1)
    write_text(output, _answers(paths, top.values.tolist(), top.indices.tolist(), trained.class_names))
    out.print(f"{len(paths)} images -> {output}" + (f"; {len(bad)} could not be read" if bad else ""))


def _answers(paths: Sequence[Path], values: list[list[float]], labels: list[list[int]], names: Sequence[str]) -> str:
    """The CSV of `predict`: path, class, probability, then class_2, probability_2, ... of the next likeliest."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    ranks = ["", *(f"_{rank}" for rank in range(2, len(values[0]) + 1))]
    lines.writerow(["path", *(word + rank for rank in ranks for word in ("class", "probability"))])
    for path, row_values, row_labels in zip(paths, values, labels, strict=True):
        pairs = zip(row_labels, row_values, strict=True)
        lines.writerow([path, *(cell for label, value in pairs for cell in (names[label], f"{value:.6f}"))])
    return text.getvalue()


def _predictions(target: Path, counts: str | None, groups: Mapping[str, Any]) -> tuple[Predictions, dict[str, Any]]:
    """Predictions of a run or a file, and how its classes are grouped: as the run says, or as asked for."""
    if not target.is_dir():
        return read_predictions(target, counts), dict(groups)
    config = load_config(target)
    if not (target / "predictions.npz").exists():
        raise not_finished(target)
    own = {"many": config.many, "few": config.few, "groups": config.groups}
    return read_predictions(target / "predictions.npz", counts), {**own, **groups}


def _prior(name: str, predictions: Predictions) -> Any:
    """A test prior by name: "uniform", "train", "forward-50" or "backward-50"."""
    counts = ClassCounts(predictions.class_counts)
    direction, _, factor = name.partition("-")
    if name == "uniform":
        return torch.full((len(counts),), 1 / len(counts))
    if name == "train":
        return counts.prior
    if direction in ("forward", "backward") and factor.replace(".", "", 1).isdigit():
        return long_tailed_prior(counts, float(factor), "forward" if direction == "forward" else "backward")
    raise InputError(f"a test prior is uniform, train, forward-K or backward-K (forward-50, say), not {name!r}")
