"""The model that every stage takes and gives back: uint8 images -> embedding -> logits.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import longtail.models as models
from longtail import _random as randomness
from longtail.component import Component, find_class
from longtail.config.convert import from_mapping
from longtail.config.schema import ModelConfig
from longtail.data.dataset import Dataset
from longtail.errors import InputError, unknown_name
from longtail.models.backbones import TorchvisionBackbone, torchvision_names

STATISTICS = {  # mean and standard deviation of the channels
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
LINEAR = Component("LinearHead")


class Classifier(nn.Module):
    """A backbone and a head, which also knows how its pixels are centred: nothing else is needed to use it.

    Args:
        backbone: (B, 3, H, W) -> (B, D).
        head: (B, D) -> (B, C).
        mean: of each colour channel, in [0, 1].
        std: likewise.
        head_component: name and options of the head, by which a checkpoint's reader builds it anew.
    """

    scale_C11: Tensor
    shift_C11: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.25, 0.25, 0.25),
        head_component: Component = LINEAR,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.head_component = head_component
        std_C11 = torch.tensor(std).view(3, 1, 1)
        self.register_buffer("scale_C11", 1 / (255 * std_C11))
        self.register_buffer("shift_C11", -torch.tensor(mean).view(3, 1, 1) / std_C11)

    def embed(self, images_BCHW: Tensor) -> Tensor:
        """Embeddings (B, D) of images with values in 0..255, uint8 or float."""
        if getattr(self.backbone, "takes_images", True):  # else they are embeddings, with no pixels to centre
            images_BCHW = images_BCHW * self.scale_C11 + self.shift_C11
        embeddings: Tensor = self.backbone(images_BCHW)
        return embeddings

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits (B, C) of images with values in 0..255, uint8 or float."""
        logits: Tensor = self.head(self.embed(images_BCHW))
        return logits

    def replace_head(self, component: Component, head: nn.Module) -> None:
        """Put another head in the place of the present one, on the same device.

        Args:
            component: name and options by which `head` can be built anew.
            head: (B, D) -> (B, C).
        """
        self.head = head.to(self.scale_C11.device)
        self.head_component = component

    def load_saved(self, saved: Mapping[str, Any], num_classes: int) -> None:
        """Take on the weights of a checkpoint, and its head, if a stage has given the model another one."""
        component: Component = from_mapping(Component, saved.get("head", self.head_component))
        self.replace_head(component, build_head(component, self, num_classes))
        self.load_state_dict(saved["model"])


def build_classifier(config: ModelConfig, data: Dataset, seed: int) -> Classifier:
    """A freshly initialised model for a data set; the same seed gives the same weights.

    Raises:
        InputError: for an unknown backbone, head or option, or weights that can not be had.
    """
    mean, std = (data.mean, data.std) if config.normalize == "data" else STATISTICS[config.normalize]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", seed))
        return _assemble(config, len(data.class_names), mean, std)


def restore_classifier(config: ModelConfig, num_classes: int, saved: Mapping[str, Any]) -> Classifier:
    """A trained model from its checkpoint, which brings the head and the statistics of the pixels along."""
    model = _assemble(replace(config, pretrained=False), num_classes, *STATISTICS["imagenet"])
    model.load_saved(saved, num_classes)
    return model.eval()


def build_head(component: Component, model: Classifier, num_classes: int) -> nn.Module:
    """A head of that name and options that fits the model's backbone.

    Raises:
        InputError: for an unknown head or option, with the nearest ones.
    """
    backbone: Any = model.backbone
    return _head(component, backbone.embedding_dim, num_classes)


def fresh_head(component: Component, model: Classifier, num_classes: int, *seed: int | str) -> nn.Module:
    """A newly initialised head; the same seed gives the same weights.

    Raises:
        InputError: for an unknown head or option, with the nearest ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("initialise", *seed))
        return build_head(component, model, num_classes)


def head_class(component: Component) -> Any:
    """The class of a head, once its name and the names of the options are known to be right.

    Raises:
        InputError: for an unknown head or option, with the nearest ones.

    Example:
        >>> head_class(Component("LinearHead")).__name__
        'LinearHead'
    """
    if "." not in component.name and component.name not in models.HEADS:
        raise unknown_name("head", component.name, models.HEADS)
    return component.check(models)


def _head(component: Component, embedding_dim: int, num_classes: int) -> nn.Module:
    head: nn.Module = head_class(component)(embedding_dim, num_classes, **component.options)
    return head


def _assemble(
    config: ModelConfig, num_classes: int, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Classifier:
    backbone: Any = _build_backbone(config)
    head = _head(config.head, backbone.embedding_dim, num_classes)
    return Classifier(backbone, head, mean, std, config.head)


def describe_backbone(config: ModelConfig, model: Classifier) -> dict[str, Any]:
    """Name, number of parameters (head included) and width, for the result."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    width: Any = model.backbone.width
    return {"name": config.backbone.name, "parameters": parameters, "width": width, "pretrained": config.pretrained}


def _build_backbone(config: ModelConfig) -> nn.Module:
    name = config.backbone.name
    if name in models.BACKBONES or "." in name:
        if config.pretrained:
            raise InputError(f"there are no pretrained weights of {name}; leave --pretrained out, or take resnet50")
        find_class(name, models)
        backbone: nn.Module = config.backbone.build(models)
        return backbone
    if name in torchvision_names():
        return TorchvisionBackbone(name, pretrained=config.pretrained)
    raise unknown_name("backbone", name, [*models.BACKBONES, *torchvision_names()])
