"""Nets of timm (https://github.com/huggingface/pytorch-image-models) by name, without their last layer."""

from typing import Any

from torch import Tensor, nn

from longtail.errors import InputError, unknown_name

PREFIX = "timm/"
"""Before the name of a net of timm, where nets of several libraries may be named."""


class TimmBackbone(nn.Module):
    """A net of timm without its classifier: (B, 3, H, W) -> (B, D).

    Args:
        architecture: as in `timm.list_models()`, with or without the name of its weights: "resnet18.a1_in1k".
        pretrained: start from timm's weights, downloaded once.

    Raises:
        InputError: if timm is not installed, has no such net, or the weights can not be had.
    """

    mean: tuple[float, float, float]
    """Of each colour channel, in [0, 1]: how the net wants its pixels centred."""
    std: tuple[float, float, float]
    """Likewise."""

    def __init__(self, *, architecture: str, pretrained: bool = False) -> None:
        super().__init__()
        timm = _timm()
        if not timm.is_model(architecture):
            raise unknown_name("net of timm", architecture, timm.list_models())
        try:
            self.net = timm.create_model(architecture, pretrained=pretrained, num_classes=0)
        except (OSError, RuntimeError, ValueError) as error:  # no network, no such weights, a damaged download
            raise InputError(
                f"the net {architecture} of timm can not be had ({error}); try --pretrained false, or put its weights "
                "into the cache of the Hugging Face hub on a machine with a network"
            ) from error
        # of a net with a layer between pooling and classifier, timm calls the width of that layer so
        self.embedding_dim: int = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        self.width = self.embedding_dim
        self.mean, self.std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embedding (B, D): what the net's own last layer would have read."""
        embeddings: Tensor = self.net(images_BCHW)
        return embeddings


def _timm() -> Any:
    try:
        import timm  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise InputError('nets of timm need timm; install it: pip install "longtail[timm]"') from error
    return timm
