"""Classification networks of torchvision and timm, without their last layer.

timm: https://github.com/huggingface/pytorch-image-models.
Shapes: B = batch, D = embedding dimension.
"""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from longtail.errors import InputError, unknown_name
from longtail.models.base import Backbone

PREFIX = "timm/"
"""Prefix of timm networks where one name may refer to several libraries, e.g. "timm/resnet18.a1_in1k"."""

UNTRAINED = ", or set `pretrained` to false, which starts from random weights"
"""Second remedy for weights that cannot be loaded, which does not apply where this is already decided."""


class TorchvisionBackbone(Backbone):
    """A torchvision classification network without its last linear layer: (B, 3, H, W) -> (B, D).

    Args:
        name: Name of the network, see `torchvision_names`.
        pretrained: Whether to load torchvision's default ImageNet weights, downloaded on first use.

    Raises:
        InputError: If the weights cannot be downloaded, or the network does not end in a linear layer.

    Example:
        >>> TorchvisionBackbone("resnet18", pretrained=False).embedding_dim
        512
    """

    def __init__(self, name: str, *, pretrained: bool) -> None:
        super().__init__()
        self.net = _pretrained(name) if pretrained else _torchvision().get_model(name, weights=None)
        linears = [(path, module) for path, module in self.net.named_modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise InputError(f"{name} does not end in a linear layer; choose another backbone, such as resnet50")
        path, last = linears[-1]
        parent, _, attribute = path.rpartition(".")
        setattr(self.net.get_submodule(parent), attribute, nn.Identity())
        self.embedding_dim = self.width = last.in_features
        # ResNet-like networks name their last feature maps "layer4", VGG-like ones "features"
        stages = [stage for stage in ("layer4", "features") if hasattr(self.net, stage)]
        self.last_stage = f"net.{stages[0]}" if stages else None

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings (B, D): the input of the removed layer."""
        embeddings: Tensor = self.net(images_BCHW)
        return embeddings


def _torchvision() -> Any:
    from torchvision import models  # takes longer to import than torch itself

    return models


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    names: list[str] = _torchvision().list_models(module=_torchvision())
    return names


def _weights_file(name: str) -> Path:
    url: str = _torchvision().get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _pretrained(name: str) -> nn.Module:
    try:
        net: nn.Module = _torchvision().get_model(name, weights="DEFAULT")
    except (URLError, OSError, RuntimeError) as error:  # no network, a full disk, a damaged download
        url = _torchvision().get_model_weights(name).DEFAULT.url
        raise InputError(
            f"cannot load the pretrained weights of {name}: {error}; download {url} on a machine with a network and "
            f"copy it to {_weights_file(name)}{UNTRAINED}"
        ) from error
    return net


class TimmBackbone(Backbone):
    """A timm network without its classifier: (B, 3, H, W) -> (B, D).

    Args:
        architecture: Name as in `timm.list_models()`, with or without the tag of its weights, e.g. "resnet18.a1_in1k".
        pretrained: Whether to load timm's weights, downloaded on first use.

    Attributes:
        mean: Mean of each color channel that the network expects, in [0, 1].
        std: Standard deviation of each color channel that the network expects, in [0, 1].

    Raises:
        InputError: If timm is not installed, has no network of this name, or cannot load the weights.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(self, *, architecture: str, pretrained: bool = False) -> None:
        super().__init__()
        timm = _timm()
        if not timm.is_model(architecture):
            raise unknown_name("timm network", architecture, timm.list_models())
        try:
            self.net = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError, ValueError) as error:  # no network, no such weights, a damaged download
            raise InputError(
                f"cannot load the timm network {architecture}: {error}; set `pretrained` to false, or copy its weights "
                "from a machine with a network into the Hugging Face cache"
            ) from error
        # set by networks with a layer between pooling and classifier: the width of that layer
        self.embedding_dim = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        self.width = self.embedding_dim
        self.mean, self.std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings (B, D): the input of the removed classifier."""
        embeddings: Tensor = self.net(images_BCHW)
        return embeddings


def _timm() -> Any:
    try:
        import timm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError('timm networks need the package timm; install it: pip install "longtail[timm]"') from error
    return timm
