"""Augmentation policies as batched tensor operations with explicit random numbers.

A transform is a pure function of a batch of uint8 images and a row of numbers in [0, 1) per image. The caller draws the
numbers, an epoch at a time, from (seed, stage, epoch). Image i then depends only on image i and row i, not on the rest
of the batch. Shapes are static and nothing synchronizes with the device, so a batch can be compiled or captured in a
CUDA graph.

Shapes: B = batch, C = 3 color channels, H x W = image size, R = uniforms per image, P = padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from longtail.augment.autoaugment import AutoAugmentCIFAR, blend, gray, mean_level
from longtail.augment.randaugment import RandAugment
from longtail.errors import InputError, unknown_name


class Transform(Protocol):
    """Interface of the parts of `Augment`: plain code, or an `nn.Module` for constants on the device."""

    @property
    def num_uniforms(self) -> int:
        """Number of random numbers per image."""

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Transform uint8 images (B, 3, H, W) with `num_uniforms` numbers in [0, 1) per image."""


def _integers(uniform_B: Tensor, count: int) -> Tensor:
    """Convert numbers in [0, 1) to integers from 0 to count - 1 with equal probability.

    The product stays below `count` also in single precision.
    """
    return (uniform_B * count).long()


@dataclass(frozen=True)
class PadCrop:
    """Random crop of the original size from the image with a black border.

    Args:
        padding: Width of the border in pixels. CIFAR recipes use 4 (default) for 32 x 32 images.

    Raises:
        InputError: If `padding` is negative.

    Example:
        >>> image = torch.ones(1, 3, 4, 4, dtype=torch.uint8)
        >>> PadCrop(padding=2)(image, torch.tensor([[0.0, 0.5]]))[0, 0]  # two pixels up, none sideways
        tensor([[0, 0, 0, 0],
                [0, 0, 0, 0],
                [1, 1, 1, 1],
                [1, 1, 1, 1]], dtype=torch.uint8)
    """

    padding: int = 4
    num_uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"`padding` must be >= 0 pixels, got {self.padding}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Crop the images. The first uniform selects the row, the second the column."""
        height, width = images_BCHW.shape[2:]
        top_B, left_B = _integers(uniforms_BR, 2 * self.padding + 1).unbind(1)
        # a view of all possible crops, from which each image selects one
        cuts_BCPPHW = pad(images_BCHW, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return cuts_BCPPHW[torch.arange(len(images_BCHW), device=images_BCHW.device), :, top_B, left_B]


@dataclass(frozen=True)
class Flip:
    """Random horizontal flip with probability 1/2.

    Example:
        >>> Flip()(torch.tensor([[[[1, 2]]], [[[1, 2]]]]), torch.tensor([[0.2], [0.7]])).flatten()
        tensor([2, 1, 1, 2])
    """

    num_uniforms: ClassVar[int] = 1

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Flip the images whose uniform is below 1/2."""
        columns_W = torch.arange(images_BCHW.shape[3], device=images_BCHW.device)
        columns_BW = torch.where(uniforms_BR[:, :1] < 0.5, columns_W.flip(0), columns_W)
        # one pass over the pixels; `torch.where` on the images takes two and twice the time or more
        return images_BCHW.gather(3, columns_BW[:, None, None].expand(images_BCHW.shape))


@dataclass(frozen=True)
class Cutout:
    """Black square whose center is anywhere in the image; the part outside is cut off.

    Improved Regularization of Convolutional Neural Networks with Cutout (DeVries and Taylor, 2017,
    https://arxiv.org/abs/1708.04552). Black is the pixel value 0 before normalization, as in the code of BALMS.

    Args:
        length: Side of the square in pixels. Default: 16. An odd side loses a pixel, as in the authors' code.

    Raises:
        InputError: If `length` is less than 2.

    Example:
        >>> Cutout(length=2)(torch.ones(1, 3, 3, 3, dtype=torch.uint8), torch.tensor([[0.0, 0.5]]))[0, 0]
        tensor([[0, 0, 1],
                [1, 1, 1],
                [1, 1, 1]], dtype=torch.uint8)
    """

    length: int = 16
    num_uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.length < 2:
            raise InputError(f"`length` must be >= 2 pixels, got {self.length}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Black out squares. The first uniform selects the row of the center, the second its column."""
        rows_BH = self._hit(uniforms_BR[:, 0], images_BCHW.shape[2])
        columns_BW = self._hit(uniforms_BR[:, 1], images_BCHW.shape[3])
        return images_BCHW.masked_fill((rows_BH[:, :, None] & columns_BW[:, None])[:, None], 0)

    def _hit(self, uniform_B: Tensor, side: int) -> Tensor:
        start_B1 = _integers(uniform_B, side)[:, None] - self.length // 2
        position = torch.arange(side, device=uniform_B.device)
        return (position >= start_B1) & (position < start_B1 + self.length // 2 * 2)


@dataclass(frozen=True)
class ColorJitter:
    """Random change of brightness, then contrast, then saturation, with the arithmetic of Pillow.

    The order is fixed. The `ColorJitter` of torchvision, which the ImageNet recipes use, draws an order per image.

    Args:
        brightness: Largest deviation of the brightness factor from 1. Default: 0.4.
        contrast: Largest deviation of the contrast factor from 1. Default: 0.4.
        saturation: Largest deviation of the saturation factor from 1. Default: 0.4.

    Raises:
        InputError: If an option is not in [0, 1].

    Example:
        >>> image = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
        >>> ColorJitter(brightness=0.5)(image, torch.tensor([[0.0, 0.3, 0.8]])).unique()
        tensor([50], dtype=torch.uint8)
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    num_uniforms: ClassVar[int] = 3

    def __post_init__(self) -> None:
        strengths = (self.brightness, self.contrast, self.saturation)
        if not all(0 <= strength <= 1 for strength in strengths):
            raise InputError(f"`brightness`, `contrast` and `saturation` must be in [0, 1], got {strengths}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Change the colors, with one uniform each for brightness, contrast and saturation."""
        spread_RB111 = (2 * uniforms_BR - 1).T[..., None, None, None]
        brightness, contrast, saturation = spread_RB111.unbind(0)
        black_B1HW = torch.zeros_like(images_BCHW[:, :1])
        images_BCHW = blend(images_BCHW, black_B1HW, 1 + self.brightness * brightness)
        images_BCHW = blend(images_BCHW, mean_level(gray(images_BCHW)), 1 + self.contrast * contrast)
        return blend(images_BCHW, gray(images_BCHW), 1 + self.saturation * saturation)


class Augment(nn.Module):
    """Sequence of transforms, each with its part of the random numbers of an image.

    Move it to the device of the images (`augment.to(device)`).

    Args:
        transforms: Transforms in their order.
        reader_uniforms: Number of leading random numbers per image that are reserved for reading the images, and that
            are skipped here.

    Example:
        >>> augment = Augment([Flip(), PadCrop()])
        >>> augment(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.rand(8, augment.num_uniforms)).shape
        torch.Size([8, 3, 4, 4])
    """

    def __init__(self, transforms: Sequence[Transform], reader_uniforms: int = 0) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.reader_uniforms = reader_uniforms
        self.num_uniforms = reader_uniforms + sum(transform.num_uniforms for transform in transforms)
        # registered, so that constants move with `.to(device)`
        self.with_constants = nn.ModuleList(t for t in transforms if isinstance(t, nn.Module))

    def forward(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Transform a batch.

        Args:
            images_BCHW: Images, uint8, shape (B, 3, H, W).
            uniforms_BR: Numbers in [0, 1), `num_uniforms` per image.

        Returns:
            Images of the same shape, uint8.
        """
        start = self.reader_uniforms
        for transform in self.transforms:
            end = start + transform.num_uniforms
            images_BCHW = transform(images_BCHW, uniforms_BR[:, start:end])
            start = end
        return images_BCHW


_POLICIES: dict[str, Callable[[], list[Transform]]] = {
    "none": list,
    "crop": lambda: [PadCrop(padding=1)],
    "crop-flip": lambda: [PadCrop(), Flip()],
    "autoaugment-cutout": lambda: [PadCrop(), Flip(), AutoAugmentCIFAR(), Cutout()],
    "imagenet": lambda: [Flip(), ColorJitter()],
    "photo": lambda: [Flip(), ColorJitter(0.2, 0.2, 0.2), RandAugment()],
    "views": list,
}
POLICIES = {
    "none": "no augmentation",
    "crop": "shift by up to one pixel; for tiny images without mirror symmetry, such as digits",
    "crop-flip": "shift by up to 4 pixels and horizontal flip; the standard for CIFAR",
    "autoaugment-cutout": "crop-flip, AutoAugment and Cutout; the strong policy for CIFAR",
    "imagenet": "random resized crop, horizontal flip and color jitter; for photographs",
    "photo": "random resized crop, horizontal flip, weak color jitter and RandAugment; strong, for photographs",
    "views": "a random augmented view from a file of features",
}
"""Description of each augmentation policy by name."""

READER_UNIFORMS = {"imagenet": 4, "photo": 4, "views": 1}
"""Random numbers per image that reading takes: a random resized crop, or the choice of a view."""


def policy(name: str) -> Augment:
    """Return the augmentation policy of a name.

    Args:
        name: Name of the policy: "none"; "crop" (by one pixel, for tiny images without mirror symmetry such as digits);
            "crop-flip" (the `ldam` recipe for CIFAR); "autoaugment-cutout" (the `balms` recipe for CIFAR); "imagenet"
            (flip and color jitter, after the random resized crop that is taken while reading); "photo" (the same with
            less jitter and RandAugment); or "views" (for features, one of the augmented views in the file).

    Raises:
        InputError: If the name is unknown. The message suggests the nearest names.

    Example:
        >>> policy("crop-flip").num_uniforms
        3
    """
    if name not in _POLICIES:
        raise unknown_name("augmentation", name, POLICIES)
    return Augment(_POLICIES[name](), READER_UNIFORMS.get(name, 0))
