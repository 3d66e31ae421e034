"""Settings of a detection run as frozen dataclasses, and how its recipes merge.

A run has a training stage, and optionally a fine-tuning stage of the box classifier and a post-hoc correction. A recipe
(`recipes/NAME.yaml`) gives detector, lengths and schedules; a method (`methods.yaml`) gives box classifiers and stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal

from longtail import samplers
from longtail.component import Component
from longtail.config.convert import from_mapping, read_yaml
from longtail.config.recipes import merge
from longtail.config.training import TrainingConfig
from longtail.detection.augment import View
from longtail.detection.box_losses import box_classifier
from longtail.errors import InputError, unknown_name
from longtail.ranges import check_ranges, ranged

TORCHVISION = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
)
"""Detectors of torchvision that can be used."""
CORRECTIONS = ("LogitAdjustment", "TauNormalization")


@dataclass(frozen=True)
class DetectionDataConfig:
    """Data of a detector.

    Args:
        name: "shapes-lt", the built-in example, or the path of a file of annotations in COCO or LVIS layout.
        images: Folder of the images. Default: the folder of the file of annotations.
        val: File of annotations on which the detector is evaluated. Default: a part of the training images.
        val_images: Folder of the images of `val`. Default: `images`.
        val_share: Share of the training images that is held out for the evaluation if `val` is not given.
        workers: Threads that read images.
        seed: Seed of the built-in example and of the held-out part.
    """

    name: str = "shapes-lt"
    images: str | None = None
    val: str | None = None
    val_images: str | None = None
    val_share: float = ranged(0.2, above=0, below=1)
    workers: int = ranged(2, at_least=0)
    seed: int = ranged(0, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class DetectorConfig:
    """Detector.

    Args:
        architecture: "small" for a network that trains on a CPU, with masks if the data have them; or a Faster R-CNN or
            Mask R-CNN of torchvision, such as "maskrcnn_resnet50_fpn".
        weights: Pretrained weights of a torchvision detector: "coco" for all but its last layers, "imagenet" for its
            backbone, None for random weights.
        anchors: Sizes of the anchors of the small detector at its four resolutions, in pixels.
        class_agnostic: Predict one box and mask per proposal instead of one per class. Rare classes have few examples
            to learn their own.
        candidates: Proposals of an image that reach the box head.
        proposals: Proposals of an image on which the box head is trained.
        score_threshold: Smallest score of a detection.
        nms_threshold: Overlap from which on the lower of two detections of a class is dropped.
        detections: Largest number of detections of an image.
    """

    architecture: str = "small"
    weights: Literal["coco", "imagenet"] | None = None
    anchors: tuple[int, ...] = ranged((12, 24, 48, 96), at_least=1)
    class_agnostic: bool = False
    candidates: int = ranged(1000, at_least=1)
    proposals: int = ranged(512, at_least=1)
    score_threshold: float = ranged(1e-4, at_least=0, below=1)
    nms_threshold: float = ranged(0.5, at_least=0, at_most=1)
    detections: int = ranged(300, at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.architecture != "small" and self.architecture not in TORCHVISION:
            raise unknown_name("detector", self.architecture, ("small", *TORCHVISION))
        if self.weights is not None and self.architecture == "small":
            raise InputError(f"`weights` must be null for the small detector, got {self.weights!r}")
        if len(self.anchors) != 4:
            raise InputError(f"`anchors` must hold four sizes, one per resolution, got {list(self.anchors)}")


@dataclass(frozen=True)
class DetectionTrain:
    """Training of the whole detector.

    Args:
        classifier: Box classifier, see `longtail.detection.BOX_CLASSIFIERS`.
        sampler: Sampler of images by the classes in them.
        training: Length, batch size, optimizer, schedule and precision. "auto" is fp32.
    """

    classifier: Component = field(default_factory=lambda: Component("softmax"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        _check_training(self.classifier, self.sampler, self.training)


@dataclass(frozen=True)
class FinetuneClassifier:
    """Fine-tuning of the existing box classifier alone, as in decoupled training; all other weights stay.

    Args:
        classifier: Box classifier, with the kind of outputs of the training stage.
        sampler: Sampler of images by the classes in them.
        training: Settings as for the training stage, without `clip_norm` and `ema`.
        cache: Compute the features of the proposals once, from images without augmentation.
        reweigh: Learn a weight per class at the same time: the Meta Reweigher of BALMS.
        meta_batch_size: Images of the class-balanced batch on which the weights are evaluated.
        meta_lr: Learning rate of Adam for the weights; 0.001 in the paper, 0.01 in the authors' code.
        shifted_meta_loss: Evaluate the weights by the balanced loss, as the authors' code does by mistake, instead of
            the plain sigmoid loss.
    """

    classifier: Component = field(default_factory=lambda: Component("balanced-sigmoid"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    cache: bool = False
    reweigh: bool = False
    meta_batch_size: int = ranged(8, at_least=1)
    meta_lr: float = ranged(1e-3, above=0)
    shifted_meta_loss: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)
        _check_training(self.classifier, self.sampler, self.training)
        if self.training.clip_norm is not None or self.training.ema is not None:
            raise InputError("`finetune.training` supports neither `clip_norm` nor `ema`; remove them")
        if self.reweigh and self.training.optimizer.kind != "sgd":
            raise InputError(f"`reweigh` needs the optimizer sgd, got {self.training.optimizer.kind}")
        if self.reweigh and box_classifier(self.classifier).activation != "sigmoid":
            raise InputError(
                f"`reweigh` needs a box classifier with sigmoid outputs, got {self.classifier.name}; use "
                "balanced-sigmoid"
            )


@dataclass(frozen=True)
class AdjustClassifier:
    """Post-hoc correction of the box classifier, see `longtail.detection.adjust`.

    Args:
        correction: "LogitAdjustment" or "TauNormalization".
        tau: Strength >= 0.
    """

    correction: str = "LogitAdjustment"
    tau: float = ranged(1.0, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.correction not in CORRECTIONS:
            raise unknown_name("correction of a box classifier", self.correction, CORRECTIONS)


@dataclass(frozen=True)
class DetectionConfig:
    """Configuration of a detection run: the `config.yaml` of a run holds it and runs it again.

    Args:
        data: Data set.
        view: Sizes and flips of the images.
        model: Detector.
        train: Training stage.
        finetune: Fine-tuning stage of the box classifier; None leaves it out.
        adjust: Post-hoc correction of the box classifier; None leaves it out.
        method: Name of the method.
        recipe: Name of the recipe.
        seed: Seed of initialization, order and augmentation.
        device: Device name; "auto" takes an accelerator if there is one.
        checkpoint_seconds: Seconds between two checkpoints within a stage. 0 writes one after each epoch.
    """

    data: DetectionDataConfig = field(default_factory=DetectionDataConfig)
    view: View = field(default_factory=View)
    model: DetectorConfig = field(default_factory=DetectorConfig)
    train: DetectionTrain = field(default_factory=DetectionTrain)
    finetune: FinetuneClassifier | None = None
    adjust: AdjustClassifier | None = None
    method: str = "custom"
    recipe: str = "custom"
    seed: int = ranged(0, at_least=0)
    device: str = "auto"
    checkpoint_seconds: float = ranged(60.0, at_least=0)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.finetune is None:
            return
        before, after = self.train.classifier, self.finetune.classifier
        kinds = box_classifier(before).activation, box_classifier(after).activation
        if kinds[0] != kinds[1]:
            raise InputError(
                f"`finetune.classifier` must have the outputs of the training stage: {before.name} has {kinds[0]} "
                f"outputs, {after.name} {kinds[1]} outputs; set `train.classifier` to {kinds[1]}"
            )


def _check_training(classifier: Component, sampler: Component, training: TrainingConfig) -> None:
    box_classifier(classifier)
    sampler.check(samplers)
    if training.optimizer.needs_groups:
        raise InputError(
            "a detector has one learning rate and weight decay for all parameters; remove `decay_norms_and_biases`, "
            "`layer_decay`, `head_lr` and `unfreeze` from its optimizer"
        )
    if training.augment != "none":
        raise InputError(f"`augment` must be none for a detector, got {training.augment!r}; set `view` instead")


def methods() -> dict[str, dict[str, Any]]:
    """Return the methods by name, each with a description (`about`) and its settings.

    Example:
        >>> methods()["softmax"]["train"]
        {'classifier': 'softmax'}
    """
    content: dict[str, dict[str, Any]] = read_yaml((files("longtail.detection") / "methods.yaml").read_text("utf-8"))
    return content


def recipes() -> list[str]:
    """Return the names of the recipes.

    Example:
        >>> "lvis-r50" in recipes()
        True
    """
    folder = files("longtail.detection") / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def compose(
    data: str = "shapes-lt",
    method: str = "balanced-sigmoid",
    recipe: str | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> DetectionConfig:
    """Return the configuration of a detection run.

    Args:
        data: "shapes-lt", or the path of a file of annotations.
        method: Method, see `methods`.
        recipe: Recipe, see `recipes`. Default: "shapes" for the built-in example, else "own".
        changes: Mappings of settings that are merged over the recipe and the method, in order.

    Raises:
        InputError: For an unknown name or setting.

    Example:
        >>> compose(method="balms", changes=[{"seed": 1}]).finetune.reweigh
        True
    """
    recipe = recipe or ("shapes" if data == "shapes-lt" else "own")
    known = methods()
    if method not in known:
        raise unknown_name("method of a detector", method, known)
    if recipe not in recipes():
        raise unknown_name("recipe of a detector", recipe, recipes())
    base = read_yaml((files("longtail.detection") / "recipes" / f"{recipe}.yaml").read_text("utf-8"))
    stages = {key: value for key, value in known[method].items() if key != "about"}
    optional = {key: merge(base.pop(key, {}), value) for key, value in stages.items() if key != "train"}
    base = {key: value for key, value in base.items() if key != "finetune"}
    merged = merge({**base, "data": {"name": data}, "method": method, "recipe": recipe}, {"train": stages["train"]})
    merged |= optional
    for change in changes:
        merged = merge(merged, change)
    return typed(merged)


def typed(mapping: Mapping[str, Any]) -> DetectionConfig:
    """Return a configuration from plain data.

    Raises:
        InputError: For an unknown setting, or a value of another type or out of range.
    """
    config: DetectionConfig = from_mapping(DetectionConfig, mapping)
    return config
