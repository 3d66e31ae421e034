"""How the images of a pretraining were prepared, as stated with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Preparation of images that pretrained weights expect.

    Args:
        mean: Mean of each color channel, in [0, 1].
        std: Standard deviation of each color channel, in [0, 1].
        image_size: Side of the square images, in pixels.
        interpolation: Interpolation of the resize. This package resizes bilinearly with antialiasing.
        crop: Share of the side that the central crop keeps.
    """

    mean: Channels
    std: Channels
    image_size: int
    interpolation: str = "bilinear"
    crop: float = 0.875

    @classmethod
    def of_timm(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the `pretrained_cfg` of a timm network.

        Args:
            config: The `pretrained_cfg` as a mapping.

        Example:
            >>> Preprocessing.of_timm({"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 240, 240)}).image_size
            240
        """
        return cls(
            _channels(config["mean"]),
            _channels(config["std"]),
            int((config.get("input_size") or (3, 224, 224))[-1]),
            str(config.get("interpolation") or "bilinear"),
            float(config.get("crop_pct") or 0.875),
        )

    @classmethod
    def of_transformers(cls, config: Mapping[str, Any]) -> "Preprocessing":
        """Read the `preprocessor_config.json` of a transformers model.

        Args:
            config: Content of the file.

        Example:
            >>> content = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}
            >>> Preprocessing.of_transformers(content).image_size
            32
        """
        resized = _side(config.get("size"), 224)
        crops = config.get("do_center_crop") and config.get("crop_size")
        side = _side(config.get("crop_size"), resized) if crops else resized
        names = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
        return cls(
            _channels(config.get("image_mean") or (0.485, 0.456, 0.406)),
            _channels(config.get("image_std") or (0.229, 0.224, 0.225)),
            side,
            names.get(int(config.get("resample") or 2), "bilinear"),
            side / max(side, resized),
        )


LITE = {0: 224, 1: 240, 2: 260}
PACKAGED = {
    f"tf_efficientnet_lite{index}": Preprocessing((127 / 255,) * 3, (128 / 255,) * 3, size, "bicubic")
    for index, size in LITE.items()
}
"""Preparation for the weights of installed packages (`longtail.models.weights.PACKAGES`)."""


def _channels(values: Any) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _side(size: Any, default: int) -> int:
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height")
    return int(size or default)
