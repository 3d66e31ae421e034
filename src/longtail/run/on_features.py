"""Training a head on features in a file: what of a configuration makes sense where there are no images."""

from collections.abc import Mapping
from typing import Any

from longtail.component import Component
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.data.formats.feature_dataset import MappedFeatures
from longtail.errors import InputError

BACKBONE = "FeatureBackbone"
NEED_IMAGES = {
    "mixing": "mixes images",
    "transfer": "changes the feature maps of a backbone",
    "embedding_loss": "teaches a backbone",
}


def advice(images: MappedFeatures) -> tuple[str, dict[str, Any], str]:
    """Data recipe, settings and reason for features: the counterpart of the choice of a net for images.

    Args:
        images: the training part.

    Example:
        >>> import numpy as np, torch
        >>> advice(MappedFeatures(np.zeros((2, 64)), torch.tensor([[0, 1]])))[0]
        'own-features'
    """
    changes: dict[str, Any] = {"model": {"backbone": {"name": BACKBONE, "embedding_dim": images.embedding_dim}}}
    why = f"a head alone: the data are features of {images.embedding_dim:,} dimensions"
    if images.num_augmented:
        changes["training"] = {"augment": "views"}
        why += f", with {images.num_augmented} augmented views of each training image"
    return "own-features", changes, why


def check_features(config: Config, data: Dataset) -> None:
    """Refuse what asks for images where there are features, and the other way about.

    Args:
        config: of the run.
        data: its data set.

    Raises:
        InputError: naming the setting and what to do.
    """
    given = isinstance(data.train.images, MappedFeatures)
    if given != (config.model.backbone.name == BACKBONE):
        what = "features, so that no backbone is run" if given else "images, which need a backbone"
        raise InputError(f"the data are {what}; leave out --backbone {config.model.backbone.name}, or give other data")
    for index, stage in enumerate(config.stages):
        _check_stage(f"stages.{index}", stage, given)


def _check_stage(where: str, stage: Component, given: bool) -> None:
    training = stage.options.get("training") or {}
    augment = training.get("augment", "none") if isinstance(training, Mapping) else training.augment
    allowed = ("none", "views")
    if given != (augment in allowed) and augment != "none":
        words = f"takes {' or '.join(allowed)} on features" if given else "views is for features"
        raise InputError(f"{where}.training.augment is {augment}, but {words}; say --set {where}.training.augment=none")
    for option, does in NEED_IMAGES.items():
        if given and stage.options.get(option):
            raise InputError(f"{where}.{option} {does}, and the data are features; choose another --method")
