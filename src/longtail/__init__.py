"""Train and evaluate image classifiers on long-tailed (class-imbalanced) data.

Practitioner with a folder of images (one subfolder per class):

    import longtail as lt

    run = lt.train("photos/")               # chooses model and method, trains, evaluates, writes a report
    print(run.scores)
    run.predict(["new.jpg"]).labels         # also: lt.load("runs/photos-balanced-softmax-seed0").predict(...)

Engineer with a training loop:

    loss = lt.losses.BalancedSoftmax(class_counts=[5000, 500, 50])     # either a balanced loss,
    sampler = lt.samplers.ClassBalancedSampler(targets)               # or a balanced sampler with cross-entropy
    scores = lt.evaluate(logits, targets, class_counts)

Researcher who compares methods: `longtail bench quick` on the command line, `longtail list` for everything there is.

Subpackages are imported on first use: `losses`, `samplers`, `embedding`, `transfer`, `augment`, `posthoc`, `models`,
`stages`, `evaluation` and `data`. A new loss is one file in `longtail/losses`; see CONTRIBUTING.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from longtail.errors import InputError
from longtail.version import __version__

if TYPE_CHECKING:  # the import of the package itself stays cheap
    from pathlib import Path

    from longtail import (
        augment,
        data,
        detection,
        embedding,
        evaluation,
        losses,
        models,
        posthoc,
        samplers,
        stages,
        transfer,
    )
    from longtail.data.counts import Countable
    from longtail.estimator import LongTailClassifier
    from longtail.evaluation import Scores
    from longtail.evaluation.checks import Array
    from longtail.run import Run
    from longtail.run.recommend import Recommendation
    from longtail.training.sinks import Sink

SUBPACKAGES = (
    "augment",
    "data",
    "detection",
    "embedding",
    "evaluation",
    "losses",
    "models",
    "posthoc",
    "samplers",
    "stages",
    "transfer",
)

__all__ = [
    "InputError",
    "LongTailClassifier",
    "Run",
    "__version__",
    "augment",
    "data",
    "detection",
    "embedding",
    "evaluate",
    "evaluation",
    "load",
    "losses",
    "models",
    "posthoc",
    "recommend",
    "samplers",
    "stages",
    "train",
    "transfer",
]

logging.getLogger("longtail").addHandler(logging.NullHandler())


def train(
    data: str | Path | None = None,
    method: str | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    recipe: str | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None,
    augment: str | None = None,
    loss: str | Mapping[str, Any] | None = None,
    backbone: str | Mapping[str, Any] | None = None,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    image_size: int | None = None,
    imbalance_factor: float | None = None,
    val_share: float | None = None,
    root: str | Path | None = None,
    workers: int | None = None,
    on_bad_image: Literal["fail", "skip"] | None = None,
    follow_links: bool | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    max_pixels: int | None = None,
    test: str | Path | None = None,
    empty_classes: Literal["fail", "keep", "drop"] | None = None,
    cache: str | Path | None = None,
    resize: Literal["auto", "crop", "squash", "pad"] | None = None,
    group: str | None = None,
    folds: int | None = None,
    protocol: Literal["honest", "paper"] | None = None,
    many: int | None = None,
    few: int | None = None,
    groups: Literal["fixed", "quantile"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    settings: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    loggers: Sequence[str | Sink] = (),
    report: bool = True,
) -> Run:
    """Train on a data set, evaluate once on its test split, and write a run folder with a report.

    Every argument that is None takes the value of the recipes, or one that is chosen by looking at the data. Reasons
    for these choices, notes and warnings are logged to `logging.getLogger("longtail")`; `run.config` and
    `run.result["notes"]` keep them. On the command line, `start`, `settings` and `loggers` are `--from`, `--set` and
    `--log`.

    Args:
        data: Path of a folder with one subfolder per class, of a table or of a list, or the name of a data set. None
            takes the embedded example `digits-lt`, or the data of the run in `out` if `resume` is set.
        method: Method recipe, such as "balanced-softmax". None lets the data decide.
        out: Run folder. Default: a new folder `runs/DATA-METHOD-seedN`.
        resume: Continue the run in `out`.
        recipe: Training recipe. Default: the usual one of the data.
        seed: Seed of initialization, order and augmentation. Default: 0.
        epochs: Epochs of the training stages. The schedule keeps its shape.
        batch_size: Images per step.
        lr: Peak learning rate.
        precision: Precision of the forward pass; "auto" is bf16 on devices that compute it natively, else fp32.
        augment: Augmentation policy.
        loss: Loss of the training stages by name, or as a mapping with its name and options.
        backbone: Backbone by name, or as a mapping with its name and options.
        pretrained: Start from the weights that the library of the backbone offers, mostly trained on ImageNet.
        weights: File with weights of the backbone, safetensors or a state dict. It replaces `pretrained`.
        image_size: Side of the square image that the model sees, in pixels.
        imbalance_factor: Imbalance factor of the long tail that is cut from a balanced set.
        val_share: Share of the training images that is held out for validation.
        root: Folder with the files of a named data set.
        workers: Processes that read images from disk.
        on_bad_image: "fail" stops at an unreadable image, "skip" leaves it out and counts it.
        follow_links: Follow symbolic links that lead out of the folder of the data.
        include: Patterns of the image files to use, such as "*_rgb.png".
        exclude: Patterns of the files and folders to leave out, such as "*_mask.png".
        path_column: Column of a table with the paths or images.
        label_column: Column of a table with the labels.
        max_pixels: Largest number of pixels of an image file.
        test: Path of a folder, a table or a list whose images are the test split.
        empty_classes: What to do with a class without training images: "fail", "keep" its output, or "drop" it.
        cache: Folder for reduced copies of large images, "auto" or "off".
        group: Images that no held-out split may separate: a column of the table, or a rule: "auto", "folder", "name",
            "similar" or "none".
        folds: Number of folds of a cross-validation in place of a test split. The run then holds one model per fold.
        resize: Way to fit an image to the square: "crop" its center, "squash" or "pad" it, or "auto".
        protocol: "honest" evaluates the last checkpoint, "paper" the epoch that is best on the test split.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.
        groups: "quantile" groups the classes by thirds instead.
        device: Device name. Default: an accelerator if there is one.
        threads: Threads for computing, from now on in this process (`torch.set_num_threads`). None changes nothing.
        settings: Any other settings by their dotted path, such as `{"stages.0.training.clip_norm": 1.0}`.
        start: Finished run whose stages are the first ones of this run. They are not repeated.
        loggers: Experiment trackers: "tensorboard", "wandb", "mlflow", "trackio", or a `longtail.training.sinks.Sink`.
        report: Write report.html too.

    Returns:
        The finished run.

    Raises:
        InputError: For invalid input. Nothing is left behind.

    Example:
        >>> import tempfile, longtail as lt
        >>> run = lt.train(method="ce", epochs=1, out=tempfile.mkdtemp())
        >>> run.result["method"], len(run.class_names)
        ('ce', 10)
    """
    # the parameters have the names of the settings
    options = {
        name: str(value) if name in ("root", "test", "cache", "weights") and value else value
        for name, value in locals().items()
    }
    from pathlib import Path

    from longtail._threads import prepare
    from longtail.run.fit import fit
    from longtail.run.folder import new_folder
    from longtail.run.resolve import changes_from, resolve

    if threads is not None:
        prepare(threads)
    if resume and out is None:
        raise InputError("`resume` requires `out`, the folder of the run to resume")
    if out is not None and not Path(out).name:
        raise InputError(f"`out` must name a folder, got {str(out)!r}")
    options = {**options, "set": list((settings or {}).items())}
    folder = None if out is None else Path(out).expanduser()
    resolved = resolve(
        None if data is None else str(data), method, recipe, changes_from(options), resumed=folder if resume else None
    )
    for reason in resolved.reasons:
        logging.getLogger("longtail").info("chosen: %s", reason)
    return fit(
        resolved.config,
        folder or new_folder(resolved.config),
        data=resolved.data,
        resume=resume,
        start=start,
        loggers=loggers,
        command="longtail.train",
        report=report,
    )


def load(folder: str | Path) -> Run:
    """Return a finished run.

    Args:
        folder: Run folder.

    Raises:
        InputError: If the folder holds no run, or the run is not finished.
    """
    from pathlib import Path

    from longtail.run import Run

    return Run.load(Path(folder).expanduser())


def evaluate(
    logits: Array,
    targets: Array,
    class_counts: Countable,
    *,
    many: int = 100,
    few: int = 20,
    groups: Literal["fixed", "quantile"] = "fixed",
) -> Scores:
    """Return every score of a test set from the logits of any model.

    Args:
        logits: Scores before the softmax, shape (N, C).
        targets: True labels, integers, shape (N,).
        class_counts: *Training* images per class, shape (C,).
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.
        groups: "fixed" uses `many` and `few`, "quantile" takes thirds of the classes.

    Raises:
        InputError: For shapes that do not fit, labels out of range, or logits that are not finite.

    Example:
        >>> import longtail as lt
        >>> scores = lt.evaluate([[2.0, 1.0], [1.0, 0.0]], [0, 1], class_counts=[500, 5])
        >>> scores.top1, scores.balanced, scores.few
        (50.0, 50.0, 0.0)
    """
    from longtail.evaluation import evaluate_logits

    return evaluate_logits(logits, targets, class_counts, many=many, few=few, groups=groups)


def recommend(data: str | Path, *, device: str = "auto") -> Recommendation:
    """Return the recommended model, training recipe and method for a data set, with the reasons.

    Args:
        data: Path or name of a data set, as for `train`.
        device: Device of the training.

    Raises:
        InputError: If the data cannot be read.

    Example:
        >>> import longtail as lt
        >>> lt.recommend("digits-lt").method
        'balanced-softmax'
    """
    from longtail.config import recipes
    from longtail.data.load import load_data
    from longtail.run.fit import choose_device
    from longtail.run.recommend import recommend as recommend_for

    where = choose_device(device)
    return recommend_for(load_data(recipes.data_config(str(data), {}), where), where)


def __getattr__(name: str) -> Any:
    """Import a subpackage or a class on first use."""
    if name in SUBPACKAGES:
        return importlib.import_module(f"longtail.{name}")
    if name == "LongTailClassifier":
        return importlib.import_module("longtail.estimator").LongTailClassifier
    if name == "Run":
        return importlib.import_module("longtail.run").Run
    raise AttributeError(f"module 'longtail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
