"""What each command does, once its arguments are read. Results go to stdout, everything else to stderr."""

import csv
import io
import itertools
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from longtail import losses, mixing, models, plan, posthoc, recipes, samplers, stages
from longtail.config import Config, DataConfig, from_mapping, to_mapping
from longtail.console import console, progress_bar
from longtail.data.augment import POLICIES
from longtail.data.cifar_files import data_root
from longtail.data.counts import ClassCounts
from longtail.data.download import download
from longtail.data.export import export_dataset
from longtail.data.inspect import inspect_data
from longtail.data.load import load_data
from longtail.data.loose import bad_images, find_images
from longtail.data.stream import StreamedImages
from longtail.errors import InputError, unknown_name
from longtail.evaluation import (
    Predictions,
    Scores,
    long_tailed_prior,
    read_predictions,
)
from longtail.files import write_text
from longtail.folder import load_config
from longtail.recommend import recommend
from longtail.run import choose_device, fit, load_trained
from longtail.training.predict import predict as predict_images

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
"""Results: stdout; in a file or a pipe, wide enough for the tables."""


def train(
    *,
    data: str | None,
    method: str | None,
    recipe: str | None,
    folder: Path | None,
    resume: bool,
    config: Sequence[Path],
    changes: Mapping[str, Any],
    against: Sequence[str],
    start: Path | None,
    loggers: Sequence[str],
    command: str,
) -> None:
    """Train, judge, and say where the report is."""
    if resume and folder is None:
        raise InputError("--resume needs --out, the folder of the run to go on with")
    demo = data is None and method is None and not config and not resume
    settled = _settle(data, method, recipe, config, changes, folder if resume else None)
    for reason in settled.reasons:
        console.print(f"chosen: {reason}")
    first = settled.config
    runs = {folder or _free_folder(first): first}
    for name in against or (["ce"] if demo and first.method != "ce" else []):
        other = plan.same_but_method(first, name)
        runs[_beside(folder, name) if folder else _free_folder(other)] = other
    rows: dict[str, Scores] = {}
    for place, each in runs.items():
        console.print(f"training {each.method} on {_in_words(each)} -> {place}")
        run = fit(each, place, data=settled.data, resume=resume, start=start, loggers=loggers, command=command)
        rows[each.method] = run.scores
    from longtail.report import scores_table  # matplotlib takes a second to import

    out.print(scores_table(rows))
    for place in runs:
        out.print(f"report: {place / 'report.html'}")


def _in_words(config: Config) -> str:
    """Data, net, length and recipe of a run, for the line before it starts."""
    training = config.stages[0].options.get("training") or {}
    epochs = training.get("epochs", 0)
    length = f"{epochs:,} epoch{'' if epochs == 1 else 's'}"
    if training.get("iterations"):
        length = f"{training['iterations']:,} steps"
    net = f"{config.model.backbone.name}{', pretrained' if config.model.pretrained else ''}"
    return f"{config.data.shown_as} ({net}; recipe {config.recipe}, {length}; seed {config.seed})"


def _beside(folder: Path, method: str) -> Path:
    return folder.with_name(f"{folder.name}-{method}")


def _free_folder(config: Config) -> Path:
    """runs/DATA-METHOD-seedN, numbered on where that is taken."""
    name = f"{Path(config.data.name).stem}-{config.method}-seed{config.seed}"
    tries = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))
    return next(place for place in tries if not place.exists())


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
        thumbnail = load_data(config.data, choose_device("cpu")).test.images.thumbnail
    except InputError as error:
        console.print(f"without example images, as the data can not be read: {error}")
        thumbnail = None
    out.print(f"report: {write_report(target, thumbnail, output)}")


def predict(*, run: Path, images: Sequence[Path], output: Path, on_bad_image: str, device: str) -> None:
    """Classify images with a trained run; writes path, class, probability and the five likeliest classes."""
    _refuse_unwritable(output)
    where = choose_device(device)
    trained = load_trained(run, where)
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


def _refuse_unwritable(output: Path) -> None:
    """Refuse before the work, not after it, a place that can not be written."""
    folder = output.parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        problem = (
            "is a folder" if output.is_dir() else f"can not be written: {folder} is no folder that one may write to"
        )
        raise InputError(f"{output} {problem}; give the path of a file to write")


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


def inspect(*, data: DataConfig, as_json: bool, again: str) -> None:
    """Say what a data set holds, how uneven it is, and what to do about it."""
    device = choose_device("auto")
    loaded = load_data(data, device)
    inspection, advice = inspect_data(loaded), recommend(loaded, device)
    if as_json:
        seen = {"class_names": list(loaded.class_names), **to_mapping(asdict(inspection))}
        out.print_json(json.dumps({**seen, "recommended": to_mapping(asdict(advice))}))
        return
    from longtail.report import Classes, groups_table

    out.print(f"{data.name}: {inspection.images:,} training images of {inspection.classes:,} classes")
    out.print(
        f"imbalance factor {inspection.imbalance_factor:.1f}, Gini {inspection.gini:.2f}; "
        f"fullest class {max(inspection.counts):,}, emptiest {min(inspection.counts):,}"
    )
    out.print(groups_table(Classes.grouped(loaded.class_names, loaded.class_counts.counts)))
    out.print(
        f"test: {inspection.test_images:,} images, {'' if inspection.test_balanced else 'not '}balanced; "
        f"held out for choices: {inspection.val_images:,}; in both train and test: {inspection.duplicates:,}; "
        f"unreadable, left out: {inspection.skipped:,}"
    )
    out.print(f"training images per class: {_fullest_first(loaded.class_names, inspection.counts)}")
    for label, names in (("no training image", inspection.zero_shot), ("a single training image", inspection.one_shot)):
        if names:
            out.print(
                f"classes with {label}: {len(names)} ({', '.join(names[:10])}{', ...' if len(names) > 10 else ''})"
            )
    for note in inspection.notes:
        out.print(f"note: {note}")
    for reason in advice.reasons[: 1 if data.name in recipes.names("data") else None]:
        out.print(f"recommended: {reason}")
    out.print(f"go: {again}")


def list_names(*, kind: str | None) -> None:
    """List what there is."""
    if kind is not None and kind not in LISTED:
        raise unknown_name("kind of thing to list", kind, LISTED)
    for title, names in _listing().items():
        if kind is None or title == kind:
            out.print(f"[bold]{title}[/bold]")
            for name, about in names.items():
                out.print(f"  {name:24} {about}".rstrip(), markup=False)


def _fullest_first(names: Sequence[str], counts: Sequence[int]) -> str:
    """Classes with their counts, the fullest first; of more than thirty, the ten at either end."""
    ordered = [
        f"{name} {count:,}" for count, name in sorted(zip(counts, names, strict=True), key=lambda each: -each[0])
    ]
    return ", ".join(ordered if len(ordered) <= 30 else [*ordered[:10], "...", *ordered[-10:]])


LISTED = (
    "methods",
    "recipes",
    "data",
    "losses",
    "samplers",
    "mixing",
    "stages",
    "backbones",
    "heads",
    "corrections",
    "augmentations",
)


def _listing() -> dict[str, dict[str, str]]:
    def described(package: Any, names: Sequence[str]) -> dict[str, str]:
        return {name: (getattr(package, name).__doc__ or "").splitlines()[0] for name in sorted(names)}

    own = {"PATH": "your own: a folder per class, a CSV or Parquet table, or `path label` lists"}
    return {
        "methods": {name: recipes.about("methods", name) for name in recipes.names("methods")},
        "recipes": {name: recipes.about("training", name) for name in recipes.names("training")},
        "data": {name: recipes.about("data", name) for name in recipes.names("data")} | own,
        "losses": described(losses, losses.__all__),
        "samplers": described(samplers, samplers.__all__),
        "mixing": described(mixing, mixing.__all__),
        "stages": described(stages, stages.__all__),
        "backbones": described(models, models.BACKBONES) | {"resnet50, ...": "every torchvision classification net"},
        "heads": described(models, models.HEADS),
        "corrections": described(posthoc, posthoc.CORRECTIONS),
        "augmentations": dict(POLICIES.items()),
    }


def show(
    *,
    data: str | None,
    method: str | None,
    recipe: str | None,
    config: Sequence[Path],
    changes: Mapping[str, Any],
) -> None:
    """Print the resolved configuration: YAML that `longtail train --config` runs."""
    settled = _settle(data, method, recipe, config, changes, None, fetch=False)
    for reason in settled.reasons:
        console.print(f"chosen: {reason}")
    sys.stdout.write(recipes.to_yaml(settled.config))


def data_get(*, name: str, root: Path | None) -> None:
    """Download a data set."""
    with progress_bar(f"downloading {name}", 1) as bar:
        place = download(name, root or data_root(), on_progress=bar.moved_to)
    out.print(f"{name} -> {place}")


def data_export(*, data: DataConfig, target: Path) -> None:
    """Write a data set as a folder per class of PNGs, and a CSV that lists them."""
    loaded = load_data(data, choose_device("cpu"))
    with progress_bar("writing", 1) as bar:
        place = export_dataset(loaded, target, on_progress=bar.moved_to)
    out.print(f"{data.name} -> {place}")


def _settle(
    data: str | None,
    method: str | None,
    recipe: str | None,
    files: Sequence[Path],
    changes: Mapping[str, Any],
    begun: Path | None,
    *,
    fetch: bool = True,
) -> plan.Plan:
    """The plan from names, files and flags; a resumed run with nothing else said keeps its own."""
    if begun is not None and data is None and method is None and not files:
        if not (begun / "config.yaml").exists():
            raise InputError(f"{begun} holds no run to go on with; check --out, or say what to train")
        return plan.Plan(recipes.typed(recipes.apply(recipes.read_file(begun / "config.yaml"), changes)), None)
    read = [recipes.read_file(path) for path in files]
    if read and "stages" in read[0] and data is None and method is None:
        merged: dict[str, Any] = {}
        for change in [*read, changes]:
            merged = recipes.apply(merged, change)
        return plan.Plan(recipes.typed(merged), None)
    given = next((str(each["data"]["name"]) for each in read if "name" in each.get("data", {})), None)
    device = choose_device(str(changes.get("device", "auto")))
    return plan.plan_run(data or given or "digits-lt", method, recipe, [*read, changes], device, fetch=fetch)


def _predictions(target: Path, counts: str | None, groups: Mapping[str, Any]) -> tuple[Predictions, dict[str, Any]]:
    """Predictions of a run or a file, and how its classes are grouped: as the run says, or as asked for."""
    if not target.is_dir():
        return read_predictions(target, counts), dict(groups)
    config = load_config(target)
    if not (target / "predictions.npz").exists():
        raise InputError(f"the run in {target} is not finished; go on with: longtail train --resume --out {target}")
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


def data_config(name: str | None, changes: Mapping[str, Any]) -> DataConfig:
    """The data configuration of a name or path, with a named set's usual settings."""
    settings = recipes.read("data", name)["data"] if name in recipes.names("data") else {"name": name or "digits-lt"}
    config: DataConfig = from_mapping(DataConfig, {**settings, **changes}, "data")
    return config
