"""torchvision's classification nets by name, without their last layer."""

from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from longtail.errors import InputError


class TorchvisionBackbone(nn.Module):
    """A torchvision classification net whose last linear layer is taken off: (B, 3, H, W) -> (B, D).

    Args:
        name: as in `torchvision.models.list_models(module=torchvision.models)`.
        pretrained: start from torchvision's default ImageNet weights, downloaded once.

    Raises:
        InputError: if the weights can not be downloaded, or the net does not end in a linear layer.

    Example:
        >>> TorchvisionBackbone("resnet18", pretrained=False).embedding_dim
        512
    """

    def __init__(self, name: str, *, pretrained: bool) -> None:
        super().__init__()
        self.net = _pretrained(name) if pretrained else torchvision.models.get_model(name, weights=None)
        linears = [(path, module) for path, module in self.net.named_modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise InputError(f"{name} does not end in a linear layer; choose another backbone, such as resnet50")
        path, last = linears[-1]
        parent, _, attribute = path.rpartition(".")
        setattr(self.net.get_submodule(parent), attribute, nn.Identity())
        self.embedding_dim: int = last.in_features
        self.width: int = last.in_features
        # where its families keep their last feature maps
        stages = [stage for stage in ("layer4", "features") if hasattr(self.net, stage)]
        self.last_stage: str | None = f"net.{stages[0]}" if stages else None

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embedding (B, D): what the net's own last layer would have read."""
        embeddings: Tensor = self.net(images_BCHW)
        return embeddings


def torchvision_names() -> list[str]:
    """Names of torchvision's classification nets."""
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def weights_at_hand(name: str) -> bool:
    """Whether the pretrained weights lie in torch's cache, so that no network is needed."""
    return _weights_file(name).exists()


def _weights_file(name: str) -> Path:
    url: str = torchvision.models.get_model_weights(name).DEFAULT.url
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _pretrained(name: str) -> nn.Module:
    try:
        net: nn.Module = torchvision.models.get_model(name, weights="DEFAULT")
    except (URLError, OSError, RuntimeError) as error:  # no network, a full disk, a damaged download
        url = torchvision.models.get_model_weights(name).DEFAULT.url
        raise InputError(
            f"the pretrained weights of {name} can not be had ({error}); download {url} on a machine with a "
            f"network to {_weights_file(name)}, or train from scratch with --pretrained false"
        ) from error
    return net
