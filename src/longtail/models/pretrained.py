"""Classification networks of torchvision and timm, without their last layer.

timm: https://github.com/huggingface/pytorch-image-models.
Shapes: B = batch, D = embedding dimension.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from longtail.errors import InputError, unknown_name
from longtail.models.base import Backbone
from longtail.models.hub import ERRORS, hub_access, import_timm, socket_timeout, without_network
from longtail.models.preprocessing import PACKAGED, Preprocessing
from longtail.models.weights import installed_weights, load_weights, read_weights

logger = logging.getLogger("longtail")

PREFIX = "timm/"
"""Prefix of timm networks where one name may refer to several libraries, e.g. "timm/resnet18.a1_in1k"."""
SOURCES = ("hf-hub:", "local-dir:")
"""Prefixes of timm networks whose configuration and weights are in a repository of the hub, or in a folder."""

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
    """Return `torchvision.models`, which takes seconds to import and is not needed for small images."""
    import torchvision.models

    return torchvision.models


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    models = _torchvision()
    names: list[str] = models.list_models(module=models)
    return names


def has_cached_weights(name: str) -> bool:
    """Return whether the pretrained weights of a torchvision network are on this machine.

    Args:
        name: Name of the network.
    """
    return _weights_file(name).is_file()


def _weights_file(name: str) -> Path:
    url: str = _torchvision().get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _pretrained(name: str) -> nn.Module:
    try:
        with socket_timeout():
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

    Vision transformers accept images of any size that is a multiple of their patches.

    Args:
        architecture: Name as in `timm.list_models()`, with or without the tag of its weights, e.g. "resnet18.a1_in1k";
            or "hf-hub:ORG/NAME" or "local-dir:FOLDER".
        pretrained: Whether to load the weights, downloaded on first use. The file of an installed package of weights
            (`longtail.models.weights.PACKAGES`) is preferred to a download.
        options: Further arguments of `timm.create_model`, such as {"drop_path_rate": 0.1}.

    Attributes:
        mean: Mean of each color channel that the network expects, in [0, 1].
        std: Standard deviation of each color channel that the network expects, in [0, 1].

    Raises:
        InputError: If timm is not installed, has no network of this name, or cannot load the weights.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(
        self, *, architecture: str, pretrained: bool = False, options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        timm = import_timm()
        if not architecture.startswith(SOURCES) and not timm.is_model(architecture):
            raise unknown_name("timm network", architecture, timm.list_models())
        packaged = installed_weights(architecture) if pretrained else None
        downloads = pretrained and packaged is None
        with _reporting(architecture, needs_hub=downloads or architecture.startswith("hf-hub:")):
            self.net = _create(timm, architecture, downloads, dict(options or {}))
        # set by networks with a layer between pooling and classifier: the width of that layer
        net: Any = self.net
        self.embedding_dim = self.width = getattr(net, "head_hidden_size", None) or net.num_features
        config = net.pretrained_cfg
        stated = Preprocessing.of_timm(config)
        if packaged is not None:
            loaded = load_weights(self, read_weights(packaged), packaged)
            stated = PACKAGED[architecture.partition(".")[0]]
            logger.info("weights of %s: %s (%d tensors)", architecture, packaged.name, loaded.matched)
        if pretrained:
            self.preprocessing = stated
            self.weights = packaged.name if packaged else architecture
        self.mean, self.std = stated.mean, stated.std
        self.architecture = {
            "library": "timm",
            "name": config.get("architecture") or architecture,
            "options": _plain_options(self.net, dict(options or {})),
        }

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings (B, D): the input of the removed classifier."""
        embeddings: Tensor = self.net(images_BCHW)
        return embeddings


@contextmanager
def _reporting(architecture: str, *, needs_hub: bool) -> Iterator[None]:
    """Turn the errors of timm within the context into a message with the reason and the remedy."""
    try:
        with hub_access() if needs_hub else nullcontext():
            yield
    except InputError:
        raise
    except ERRORS as error:
        name = architecture.removeprefix("hf-hub:")
        if name.startswith("local-dir:"):
            raise InputError(f"cannot load the timm network {name}: {error}; check the folder") from error
        config = None if "/" in name else import_timm().get_pretrained_cfg(name)
        stated = None if config is None else config.hf_hub_id
        repository = stated or (name if "/" in name else f"timm/{name}")
        raise without_network(name, repository, error) from error


def _create(timm: Any, architecture: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """Return a network without classifier, which takes images of any size if its library offers that."""
    try:
        net: nn.Module = timm.create_model(
            architecture, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **options
        )
    except TypeError:  # a network without position embeddings has no such option
        net = timm.create_model(architecture, pretrained=pretrained, num_classes=0, **options)
    return net


def _plain_options(net: nn.Module, given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network that a configuration of the hub has added, apart from those always set."""
    arguments = {**getattr(net, "_model_args", {}), **given}
    known = ("num_classes", "dynamic_img_size")
    plain = (int, float, str, bool, type(None), list, tuple)
    return {name: value for name, value in arguments.items() if name not in known and isinstance(value, plain)}


def timm_preprocessing(architecture: str) -> Preprocessing | None:
    """Return the preparation of images stated with the weights of a timm network, without building it.

    Args:
        architecture: Name, see `TimmBackbone`.

    Raises:
        InputError: If timm is not installed, or the configuration cannot be read.
    """
    timm = import_timm()
    if installed_weights(architecture) is not None:
        return PACKAGED[architecture.partition(".")[0]]
    if not architecture.startswith(SOURCES):
        config = timm.get_pretrained_cfg(architecture)
        return None if config is None else Preprocessing.of_timm(config.to_dict())
    with _reporting(architecture, needs_hub=architecture.startswith("hf-hub:")):
        place = architecture.partition(":")[2]
        if architecture.startswith("local-dir:"):
            config, *_ = timm.models._hub.load_model_config_from_path(place)
        else:
            config, *_ = timm.models.load_model_config_from_hf(place)
    return Preprocessing.of_timm(config)
