"""A small net for tiny images, such as scikit-learn's digits of 8 x 8 pixels."""

from torch import Tensor, nn


class SmallNet(nn.Module):
    """Three convolutions and a mean: (B, 3, H, W) -> (B, 2 * width), any H, W >= 4.

    Args:
        width: channels of the first convolution.

    Example:
        >>> import torch
        >>> small_net()(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 64])
    """

    last_stage = "layers"

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding_dim = 2 * width
        self.layers = nn.Sequential(
            *_convolution(3, width, stride=1),
            *_convolution(width, 2 * width, stride=2),
            *_convolution(2 * width, 2 * width, stride=1),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Embedding: the mean of the last feature map over its positions."""
        maps: Tensor = self.layers(images_BCHW)
        return maps.mean(dim=(2, 3))


def _convolution(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()


def small_net(*, width: int = 32) -> SmallNet:
    """Three convolutions, for tiny images.

    Args:
        width: channels of the first convolution.
    """
    return SmallNet(width=width)
