"""Small images as one uint8 tensor on the training device, where a batch is one indexing operation.

As in airbench (Jordan, https://github.com/KellerJordan/cifar10-airbench): no workers, no decoding, no copy.

Shapes: N = images, S = steps of an epoch, B = batch, R = uniform random numbers per image, H x W = image size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from longtail.errors import InputError


class ResidentImages:
    """Images held in memory.

    Args:
        pixels: RGB images, uint8, shape (N, 3, H, W) with H = W. They are moved to `device`.
        device: Device of the training.

    Raises:
        InputError: If `pixels` has another type or shape.

    Example:
        >>> images = ResidentImages(torch.zeros(10, 3, 8, 8, dtype=torch.uint8))
        >>> [batch.shape for batch in images.batches(torch.tensor([[0, 1], [2, 3]]), None)]
        [torch.Size([2, 3, 8, 8]), torch.Size([2, 3, 8, 8])]
    """

    def __init__(self, pixels: Tensor, device: torch.device | str = "cpu") -> None:
        is_rgb = pixels.ndim == 4 and pixels.shape[1] == 3 and pixels.shape[2] == pixels.shape[3]
        if pixels.dtype != torch.uint8 or not is_rgb:
            raise InputError(f"images must be uint8 of shape (N, 3, H, H), got {pixels.dtype} {tuple(pixels.shape)}")
        self.pixels = pixels.to(device)
        self.size = pixels.shape[-1]

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, order_SB: Tensor, uniforms_SBR: Tensor | None) -> Iterator[Tensor]:
        """Yield one uint8 tensor (B, 3, H, W) per row of `order_SB`. The random numbers are not used."""
        del uniforms_SBR
        yield from map(self.pick, order_SB.to(self.pixels.device))

    def pick(self, picked_B: Tensor) -> Tensor:
        """Return the images at indices on the device, in their order."""
        return self.pixels[picked_B]

    def subset(self, indices: Tensor) -> "ResidentImages":
        """Return the images at `indices`, in that order."""
        return ResidentImages(self.pixels[indices.to(self.pixels.device)], self.pixels.device)

    def thumbnail(self, index: int) -> Tensor:
        """Return one image: uint8 (3, H, W) on the CPU."""
        return self.pixels[index].cpu()


def channel_statistics(pixels: Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Compute the mean and standard deviation of each color channel, in [0, 1].

    The sums are over integers, so the result does not depend on the order of the images.

    Args:
        pixels: Images, uint8, shape (N, 3, H, W).

    Example:
        >>> channel_statistics(torch.full((2, 3, 4, 4), 255, dtype=torch.uint8))[0]
        (1.0, 1.0, 1.0)
    """
    levels = torch.arange(256, dtype=torch.float64)
    mean, std = [], []
    for channel in range(3):
        share = torch.bincount(pixels[:, channel].flatten().cpu().int(), minlength=256).double()
        share = share / share.sum()
        center = (share * levels).sum()
        mean.append(float(center / 255))
        std.append(max(float((share * (levels - center) ** 2).sum().sqrt() / 255), 1e-3))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
