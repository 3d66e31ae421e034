"""Recommendation for a data set: model, training recipe and method, with the reasons."""

from dataclasses import dataclass
from typing import Any

import torch

from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.formats.feature_dataset import MappedFeatures
from longtail.errors import InputError
from longtail.run.routes import routes_for

BALANCED_BELOW = 2.0  # imbalance factor below which re-balancing has nothing to gain
LEAST_STEPS = 1_000  # a model from scratch has not learned much in fewer steps
FEATURE_BACKBONE = "FeatureBackbone"


@dataclass(frozen=True)
class Recommendation:
    """Recommended settings and the reasons.

    Args:
        data_recipe: Data recipe for a user's own images of this size.
        method: Method recipe.
        changes: Settings that differ from the recipes.
        reasons: One sentence on the method and one on the model.
        alternatives: One line for each other route (see `longtail.run.routes`), with its estimated time.
    """

    data_recipe: str
    method: str
    changes: dict[str, Any]
    reasons: tuple[str, ...]
    alternatives: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([*self.reasons, *self.alternatives])


def recommend(data: Dataset, device: torch.device, *, routes: bool = True, backbone: str = "") -> Recommendation:
    """Recommend settings for a data set. Only the training part is used.

    Args:
        data: Data set.
        device: Device of the training: a small model on a CPU, a larger one on an accelerator.
        routes: Choose between features, fine-tuning and training from scratch for images of more than 64 pixels, by
            the weights on this machine and the time of each. False recommends fine-tuning.
        backbone: Pretrained backbone that is given already, or "".

    Example:
        >>> from longtail.config.schema import DataConfig
        >>> from longtail.data.formats.digits import load_digits_lt
        >>> recommend(load_digits_lt(DataConfig(), torch.device("cpu")), torch.device("cpu")).method
        'balanced-softmax'
    """
    method, why_method = _method(data)
    recipe, changes, why_model = _model(data, device)
    if recipe != "own-large" or not routes:
        return Recommendation(recipe, method, changes, (why_method, why_model))
    chosen, *others = routes_for(data, device, changes["training"]["epochs"], backbone)
    alternatives = tuple(map(str, others))
    model = {"backbone": chosen.backbone, "pretrained": True}
    if chosen.name == "features":
        changes = {"model": model, "data": {"image_size": chosen.size}}
        why_model = f"{chosen}; a frozen backbone needs no training on {device.type}"
        return Recommendation(recipe, f"{method}-solved", changes, (why_method, why_model), alternatives)
    return Recommendation(recipe, method, {**changes, "model": model}, (why_method, str(chosen)), alternatives)


def _method(data: Dataset) -> tuple[str, str]:
    counts = data.group_counts  # before the hold-out, as in the shot groups and the report
    factor = counts.imbalance_factor
    if factor < BALANCED_BELOW:
        return (
            "ce",
            f"ce: the most frequent class has only {factor:.1f} times the images of the least frequent one; there is "
            "nothing to re-balance",
        )
    return (
        "balanced-softmax",
        f"balanced-softmax: the most frequent class has {factor:.0f} times the images of the least frequent one "
        f"({int(counts.counts.max())} and {int(counts.counts.min())}); it costs no time and needs no tuning",
    )


def _model(data: Dataset, device: torch.device) -> tuple[str, dict[str, Any], str]:
    if isinstance(data.train.images, MappedFeatures):
        return recommend_for_features(data.train.images)
    size = data.train.images.size
    if size <= 64:
        recipe, batch, usual = ("own-tiny", 64, 60) if size <= 16 else ("own-small", 128, 100)
        steps_per_epoch = -(-len(data.train) // batch)
        epochs = max(usual, -(-LEAST_STEPS // steps_per_epoch)) if steps_per_epoch * usual < LEAST_STEPS else usual
        name = "small_net" if size <= 16 else "resnet32"
        return recipe, {"training": {"epochs": epochs}}, f"{name} from scratch: images of {size} pixels"
    name = "resnet18" if device.type == "cpu" else "resnet50"
    epochs = min(60, max(15, -(-LEAST_STEPS // -(-len(data.train) // 64))))
    changes: dict[str, Any] = {"model": {"backbone": name}, "training": {"epochs": epochs}}
    slow = " (slow there: `image_size` 64 trains a small model many times faster)" if device.type == "cpu" else ""
    return "own-large", changes, f"{name} from ImageNet weights: images of {size} pixels, on {device.type}{slow}"


def without_weights(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the same recommendation for a machine without the pretrained weights: longer, from scratch."""
    epochs = 3 * changes["training"]["epochs"]
    model = {**changes["model"], "pretrained": False}
    optimizer = {"kind": "sgd", "lr": 0.05, "nesterov": True, "weight_decay": 1e-4, "head_lr": 1.0}
    return {**changes, "model": model, "training": {"epochs": epochs, "optimizer": optimizer}}


def recommend_for_features(images: MappedFeatures) -> tuple[str, dict[str, Any], str]:
    """Return data recipe, settings and reason for features: the counterpart of the choice of a model for images.

    Args:
        images: Training part.

    Example:
        >>> import numpy as np
        >>> recommend_for_features(MappedFeatures(np.zeros((2, 64)), torch.tensor([[0, 1]])))[0]
        'own-features'
    """
    backbone = {"name": FEATURE_BACKBONE, "embedding_dim": images.embedding_dim}
    changes: dict[str, Any] = {"model": {"backbone": backbone}}
    why = f"a head alone: the data are features of {images.embedding_dim:,} dimensions"
    if images.num_augmented:
        changes["training"] = {"augment": "views"}
        why += f", with {images.num_augmented} augmented views of each training image"
    return "own-features", changes, why


def check_features(config: Config, data: Dataset) -> None:
    """Refuse settings that need images if the data are features, and the reverse.

    Args:
        config: Configuration of the run.
        data: Data set.

    Raises:
        InputError: With the setting and the remedy.
    """
    given = isinstance(data.train.images, MappedFeatures)
    backbone = config.model.backbone.name
    if given != (backbone == FEATURE_BACKBONE):
        what = "features, so that no backbone is run" if given else "images, which need a backbone"
        raise InputError(f"the data are {what}; remove `model.backbone` {backbone}, or give other data")
    for index, stage in enumerate(config.stages):
        training = stage.training_settings()
        _check_augment(f"stages.{index}", "none" if training is None else training.augment, given)
        for setting, reason in stage.image_settings().items() if given else ():
            raise InputError(f"`stages.{index}.{setting}` {reason}, and the data are features; choose another `method`")


def _check_augment(where: str, augment: str, features: bool) -> None:
    allowed = ("none", "views")
    if features != (augment in allowed) and augment != "none":
        rule = f"must be {' or '.join(allowed)} for features" if features else "is for features only"
        raise InputError(f"`{where}.training.augment` {rule}, got {augment}; set it to none")
