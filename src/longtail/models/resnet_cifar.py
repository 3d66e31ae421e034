"""The CIFAR ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2).

https://arxiv.org/abs/1512.03385: three stages of basic blocks at widths 16, 32, 64; shortcuts without parameters
(option A: every second pixel, zero channels); Kaiming initialisation of the convolutions. Width 16 with a linear head
for 100 classes has 0.47 M parameters; several papers call a net of width 64 (7.4 M) by the same name.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (B, in, h, w) -> (B, out, h / stride, w / stride)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.added_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """Residual sum, then ReLU."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.added_channels == 0:
            return x
        before = self.added_channels // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added_channels - before))


class ResNetCIFAR(nn.Module):
    """ResNet for images of 32 pixels, without its last layer: (B, 3, 32, 32) -> (B, 4 * width).

    Args:
        blocks: basic blocks per stage; 5 gives the 31 convolutions of ResNet-32.
        width: channels of the first stage.

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
        """Embedding: the mean of the last feature map over its positions."""
        maps: Tensor = self.stage3(self.stage2(self.stage1(self.stem(images_BCHW))))
        return maps.mean(dim=(2, 3))


def _stage(blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def resnet20(*, width: int = 16) -> ResNetCIFAR:
    """ResNet-20 for CIFAR: three blocks a stage.

    Args:
        width: channels of the first stage; the standard net has 16.
    """
    return ResNetCIFAR(blocks=3, width=width)


def resnet32(*, width: int = 16) -> ResNetCIFAR:
    """ResNet-32 for CIFAR: five blocks a stage, the field's usual net.

    Args:
        width: channels of the first stage; the standard net has 16.
    """
    return ResNetCIFAR(blocks=5, width=width)
