"""What to do with a data set when nobody says: backbone, training recipe and method, with the reasons."""

from dataclasses import dataclass
from typing import Any

import torch

from longtail.data.dataset import Dataset
from longtail.data.formats.feature_dataset import MappedFeatures
from longtail.models.pretrained import weights_at_hand
from longtail.run.on_features import advice

BALANCED_BELOW = 2.0  # imbalance factor under which re-balancing has nothing to gain
LEAST_STEPS = 1_000  # a net from scratch has not learnt much in fewer


@dataclass(frozen=True)
class Recommendation:
    """A choice and why.

    Args:
        data_recipe: the recipe for images of this size, for own images.
        method: name of a method recipe.
        changes: settings that differ from the recipes.
        reasons: a sentence each.
    """

    data_recipe: str
    method: str
    changes: dict[str, Any]
    reasons: tuple[str, ...]


def recommend(data: Dataset, device: torch.device) -> Recommendation:
    """Choose for a data set; nothing but its training part is looked at.

    Args:
        data: as loaded.
        device: where training would run: a small net on a CPU, a larger one on an accelerator.

    Example:
        >>> from longtail.config.schema import DataConfig
        >>> from longtail.data.formats.digits import load_digits_lt
        >>> recommend(load_digits_lt(DataConfig(), torch.device("cpu")), torch.device("cpu")).method
        'balanced-softmax'
    """
    method, why_method = _method(data)
    recipe, changes, why_net = _net(data, device)
    return Recommendation(recipe, method, changes, (why_method, why_net))


def _method(data: Dataset) -> tuple[str, str]:
    counts = data.class_counts
    factor = counts.imbalance_factor
    if factor < BALANCED_BELOW:
        return (
            "ce",
            f"ce: the fullest class has only {factor:.1f} times the images of the emptiest; nothing to re-balance",
        )
    return (
        "balanced-softmax",
        f"balanced-softmax: the fullest class has {factor:.0f} times the images of the emptiest "
        f"({int(counts.counts.max())} and {int(counts.counts.min())}); it costs no time and needs no tuning",
    )


def _net(data: Dataset, device: torch.device) -> tuple[str, dict[str, Any], str]:
    if isinstance(data.train.images, MappedFeatures):
        return advice(data.train.images)
    size = data.train.images.size
    if size <= 64:
        recipe, batch, usual = ("own-tiny", 64, 60) if size <= 16 else ("own-small", 128, 100)
        steps_per_epoch = -(-len(data.train) // batch)
        epochs = max(usual, -(-LEAST_STEPS // steps_per_epoch)) if steps_per_epoch * usual < LEAST_STEPS else usual
        net = "small_net" if size <= 16 else "resnet32"
        return recipe, {"training": {"epochs": epochs}}, f"{net} from scratch: images of {size} pixels"
    net = "resnet18" if device.type == "cpu" else "resnet50"
    epochs = min(60, max(15, -(-LEAST_STEPS // -(-len(data.train) // 64))))
    changes: dict[str, Any] = {"model": {"backbone": net}, "training": {"epochs": epochs}}
    slow = " (slow there: --image-size 64 trains a small net many times faster)" if device.type == "cpu" else ""
    return "own-large", changes, f"{net} from ImageNet weights: images of {size} pixels, on {device.type}{slow}"


def without_weights(changes: dict[str, Any]) -> dict[str, Any]:
    """The same choice for a machine that can not have the pretrained weights: longer, from scratch."""
    epochs = 3 * changes["training"]["epochs"]
    model = {**changes["model"], "pretrained": False}
    return {**changes, "model": model, "training": {"epochs": epochs, "optimizer": {"lr": 0.05}}}


__all__ = ["Recommendation", "recommend", "weights_at_hand", "without_weights"]
