"""Image networks of Hugging Face transformers as backbones: https://github.com/huggingface/transformers.

Of models for images and text (CLIP, SigLIP), the image tower alone is built.
Shapes: B = batch, T = tokens, D = embedding dimension.
"""

import inspect
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail.errors import InputError
from longtail.models.base import Backbone
from longtail.models.hub import ERRORS, hub_access, import_transformers, without_network
from longtail.models.preprocessing import Preprocessing

PREFIX = "hf/"
"""Prefix of the networks of transformers, e.g. "hf/facebook/dinov2-small" or "hf/path/to/folder"."""
TOWERS = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}
CLASSES = {
    "clip_vision_model": "CLIPVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "convnext": "ConvNextModel",
    "convnextv2": "ConvNextV2Model",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
    "resnet": "ResNetModel",
    "swin": "SwinModel",
    "vit": "ViTModel",
}
"""Class of each type of image network. SigLIP2 checkpoints of a fixed image size have the type of SigLIP."""


class TransformersBackbone(Backbone):
    """An image network of transformers without its classifier: (B, 3, H, W) -> (B, D).

    The embedding is the pooled output of the network: the class token after the last normalization (DINOv2, CLIP, ViT),
    attention pooling (SigLIP), or the mean over positions (ConvNeXt, ResNet, Swin).

    Args:
        source: Repository of the hub ("facebook/dinov2-small"), or a folder with `config.json` and the weights.
        pretrained: Whether to load the weights, downloaded on first use. The configuration is needed in any case.
        architecture: Configuration from `Backbone.architecture`, which replaces that of the source.

    Raises:
        InputError: If transformers is not installed, the source cannot be read, or its type is not in `CLASSES`.
    """

    def __init__(self, *, source: str, pretrained: bool = False, architecture: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        transformers = import_transformers()
        config = _config(transformers, source) if architecture is None else _rebuilt(transformers, architecture)
        cls = getattr(transformers, _class_name(source, config))
        # the pooler of ViT is a layer, which many checkpoints lack
        self._has_pooler = config.model_type != "vit"
        options = {} if self._has_pooler else {"add_pooling_layer": False}
        self.net = _pretrained(cls, source, options) if pretrained else cls(_image_part(config), **options)
        if pretrained:
            self.preprocessing = preprocessing_of(source)
            self.weights = source
        self.net.eval()
        parameters = inspect.signature(cls.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in parameters else {}
        own = self.net.config
        self.embedding_dim = self.width = int((getattr(own, "hidden_sizes", None) or [own.hidden_size])[-1])
        self.architecture = {"library": "transformers", "source": source, "config": own.to_json_string()}

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings (B, D)."""
        output = self.net(pixel_values=images_BCHW, **self._options)
        embeddings: Tensor = output.pooler_output if self._has_pooler else output.last_hidden_state[:, 0]
        return embeddings.flatten(1)


def preprocessing_of(source: str) -> Preprocessing | None:
    """Return the preparation of images stated with a model, or None if there is none.

    Args:
        source: Repository of the hub, or a folder.
    """
    transformers = import_transformers()
    try:
        with _access(source):
            content, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(
                _located(source)
            )
    except ERRORS:
        return None
    return Preprocessing.of_transformers(content)


def _located(source: str) -> str:
    path = Path(source).expanduser()
    return str(path) if path.is_dir() else source


def _access(source: str) -> AbstractContextManager[None]:
    """Return the context for reading a source; a folder needs no hub."""
    return nullcontext() if Path(source).expanduser().is_dir() else hub_access()


def _config(transformers: Any, source: str) -> Any:
    try:
        with _access(source):
            return transformers.AutoConfig.from_pretrained(_located(source))
    except ERRORS as error:
        raise without_network(f"{PREFIX}{source}", source, error) from error


def _rebuilt(transformers: Any, architecture: Mapping[str, Any]) -> Any:
    content = json.loads(architecture["config"])
    return getattr(transformers, CLASSES[content["model_type"]]).config_class.from_dict(content)


def _class_name(source: str, config: Any) -> str:
    name = TOWERS.get(config.model_type) or CLASSES.get(config.model_type)
    if name is None:
        raise InputError(
            f"{PREFIX}{source} must be an image network of the type {', '.join([*TOWERS, *CLASSES])}, got "
            f"{config.model_type}; wrap it in a module of your own, and give its import path as the backbone"
        )
    return name


def _image_part(config: Any) -> Any:
    return config.vision_config if config.model_type in TOWERS else config


def _pretrained(cls: Any, source: str, options: Mapping[str, Any]) -> Any:
    try:
        with _access(source):
            net, report = cls.from_pretrained(_located(source), output_loading_info=True, **options)
    except ERRORS as error:
        raise without_network(f"{PREFIX}{source}", source, error) from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"{source} lacks weights of its image network: {', '.join(missing[:10])}; choose another source"
        )
    return net
