"""Convolutional networks for small images: the CIFAR ResNet and a network for 8 x 8 digits.

The CIFAR ResNet is that of He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
https://arxiv.org/abs/1512.03385: three stages of basic blocks with widths 16, 32, 64, parameter-free shortcuts (option
A: stride 2 and zero-padded channels) and Kaiming initialization of the convolutions. With width 16 and a linear head
for 100 classes it has 0.47 M parameters. Several papers use the same name for a network of width 64 (7.4 M).

Shapes: B = batch, h and w = height and width of a feature map.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from longtail.models.base import Backbone


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut: (B, in, h, w) -> (B, out, h / stride, w / stride).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, >= `in_channels`.
        stride: Stride of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.added_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Compute ReLU of the residual sum."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.added_channels == 0:
            return x
        before = self.added_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added_channels - before))


class ResNetCIFAR(Backbone):
    """ResNet for images of 32 x 32 pixels, without classifier: (B, 3, 32, 32) -> (B, 4 * width).

    Args:
        blocks: Basic blocks per stage; 3 for ResNet-20, 5 for ResNet-32.
        width: Channels of the first stage.

    Example:
        >>> import torch
        >>> net = ResNetCIFAR(blocks=5, width=16)
        >>> sum(p.numel() for p in net.parameters())
        463504
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64])
    """

    last_stage = "stage3"

    def __init__(self, *, blocks: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding_dim = 4 * width
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.stage1 = _stage(blocks, width, width, stride=1)
        self.stage2 = _stage(blocks, width, 2 * width, stride=2)
        self.stage3 = _stage(blocks, 2 * width, 4 * width, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Compute the embeddings: the last feature maps averaged over positions."""
        maps: Tensor = self.stage3(self.stage2(self.stage1(self.stem(images_BCHW))))
        return maps.mean(dim=(2, 3))


def _stage(blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def resnet20(*, width: int = 16) -> ResNetCIFAR:
    """Build the CIFAR ResNet-20, with three blocks per stage.

    Args:
        width: Channels of the first stage; 16 in the paper.
    """
    return ResNetCIFAR(blocks=3, width=width)


def resnet32(*, width: int = 16) -> ResNetCIFAR:
    """Build the CIFAR ResNet-32, with five blocks per stage: the standard network of CIFAR-LT papers.

    Args:
        width: Channels of the first stage; 16 in the paper.
    """
    return ResNetCIFAR(blocks=5, width=width)


class SmallNet(Backbone):
    """Three convolutions and global average pooling: (B, 3, H, W) -> (B, 2 * width) for any H, W >= 4.

    Args:
        width: Channels of the first convolution.

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
        """Compute the embeddings: the last feature maps averaged over positions."""
        maps: Tensor = self.layers(images_BCHW)
        return maps.mean(dim=(2, 3))


def _convolution(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
    return convolution, nn.BatchNorm2d(out_channels), nn.ReLU()


def small_net(*, width: int = 32) -> SmallNet:
    """Build a network of three convolutions for tiny images, such as the 8 x 8 digits of scikit-learn.

    Args:
        width: Channels of the first convolution.
    """
    return SmallNet(width=width)
