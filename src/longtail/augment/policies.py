"""Augmentation as batched tensor work in which randomness is data.

A transform is a pure function of a batch of uint8 images and, for each image, a row of numbers from [0, 1). The caller
draws them, an epoch at a time, from (seed, stage, epoch); image i then depends on nothing but image i and row i,
whatever else is in the batch. Shapes are static and nothing waits for the device, so that a batch can be compiled or
captured in a CUDA graph.

Shapes: B = batch, C = 3 colour channels, H x W = image size, R = uniforms of an image, P = padding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from longtail.augment.autoaugment import AutoAugmentCIFAR, blend, grey, mean_level
from longtail.data.decode import CROP_UNIFORMS
from longtail.errors import InputError, unknown_name


class Transform(Protocol):
    """What `Augment` is made of: plain code, or an `nn.Module` where constants must live on the device."""

    @property
    def num_uniforms(self) -> int:
        """How many random numbers an image takes."""

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """New images from uint8 images (B, 3, H, W) and `num_uniforms` numbers from [0, 1) for each."""


def _whole(uniform_B: Tensor, count: int) -> Tensor:
    """Numbers from [0, 1) as whole numbers from 0 to count - 1, all equally likely.

    In single precision too the product stays below `count`.
    """
    return (uniform_B * count).long()


@dataclass(frozen=True)
class PadCrop:
    """Put a black frame around the image and cut an image of the old size out of it, anywhere.

    Args:
        padding: width of the frame in pixels; CIFAR recipes use 4 for 32 x 32 images.

    Example:
        >>> image = torch.ones(1, 3, 4, 4, dtype=torch.uint8)
        >>> PadCrop(padding=2)(image, torch.tensor([[0.0, 0.5]]))[0, 0]  # two up, none to the side
        tensor([[0, 0, 0, 0],
                [0, 0, 0, 0],
                [1, 1, 1, 1],
                [1, 1, 1, 1]], dtype=torch.uint8)
    """

    padding: int = 4
    num_uniforms: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"padding is a number of pixels, 0 or more, not {self.padding}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Cut out; the first uniform chooses the row, the second the column."""
        height, width = images_BCHW.shape[2:]
        top_B, left_B = _whole(uniforms_BR, 2 * self.padding + 1).unbind(1)
        # a view of every cut there is, of which each image picks one
        cuts_BCPPHW = pad(images_BCHW, (self.padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
        return cuts_BCPPHW[torch.arange(len(images_BCHW), device=images_BCHW.device), :, top_B, left_B]


@dataclass(frozen=True)
class Flip:
    """Mirror left and right, every second time.

    Example:
        >>> Flip()(torch.tensor([[[[1, 2]]], [[[1, 2]]]]), torch.tensor([[0.2], [0.7]])).flatten()
        tensor([2, 1, 1, 2])
    """

    num_uniforms: ClassVar[int] = 1

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Mirror the images whose uniform is below one half."""
        return torch.where(uniforms_BR[:, 0, None, None, None] < 0.5, images_BCHW.flip(3), images_BCHW)


@dataclass(frozen=True)
class Cutout:
    """Black out a square whose centre lies anywhere in the image; what falls outside is lost.

    Improved Regularization of Convolutional Neural Networks with Cutout (DeVries and Taylor, 2017,
    https://arxiv.org/abs/1708.04552). Black is the pixel value 0, before normalisation, as in the code of BALMS.

    Args:
        length: side of the square in pixels, even (an odd one loses a pixel, as in the authors' code).

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
            raise InputError(f"the side of the square is at least 2 pixels, not {self.length}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Black out; the first uniform chooses the centre's row, the second its column."""
        rows_BH = self._hit(uniforms_BR[:, 0], images_BCHW.shape[2])
        columns_BW = self._hit(uniforms_BR[:, 1], images_BCHW.shape[3])
        return images_BCHW.masked_fill((rows_BH[:, :, None] & columns_BW[:, None])[:, None], 0)

    def _hit(self, uniform_B: Tensor, side: int) -> Tensor:
        start_B1 = _whole(uniform_B, side)[:, None] - self.length // 2
        position = torch.arange(side, device=uniform_B.device)
        return (position >= start_B1) & (position < start_B1 + self.length // 2 * 2)


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, then contrast, then saturation, each by a factor drawn around 1, with Pillow's arithmetic.

    The order is fixed; torchvision's `ColorJitter`, which the ImageNet recipes use, draws it anew for each image.

    Args:
        brightness: the factor lies within this much of 1.
        contrast: likewise.
        saturation: likewise.

    Raises:
        InputError: if one is not in [0, 1].

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
            raise InputError(f"brightness, contrast and saturation must lie in [0, 1], not {strengths}")

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Jitter; one uniform each for brightness, contrast and saturation."""
        spread_RB111 = (2 * uniforms_BR - 1).T[..., None, None, None]
        brightness, contrast, saturation = spread_RB111.unbind(0)
        black_B1HW = torch.zeros_like(images_BCHW[:, :1])
        images_BCHW = blend(images_BCHW, black_B1HW, 1 + self.brightness * brightness)
        images_BCHW = blend(images_BCHW, mean_level(grey(images_BCHW)), 1 + self.contrast * contrast)
        return blend(images_BCHW, grey(images_BCHW), 1 + self.saturation * saturation)


class Augment(nn.Module):
    """Transforms one after the other, each with its share of every image's random numbers.

    Move it to the device of the images (`augment.to(device)`).

    Args:
        transforms: in order.
        reader_uniforms: numbers at the head of each row that whoever reads the images has used, and that are passed
            over here.

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
        # known to PyTorch, so that their constants move with `.to(device)`
        self.with_constants = nn.ModuleList(t for t in transforms if isinstance(t, nn.Module))

    def forward(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """New uint8 images (B, 3, H, W) from uint8 images and `num_uniforms` numbers from [0, 1) for each."""
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
    "views": list,
}
POLICIES = {
    "none": "images as they are",
    "crop": "shift by one pixel; for tiny images without mirror symmetry, such as digits",
    "crop-flip": "shift by up to 4 pixels and mirror; the usual one for CIFAR",
    "autoaugment-cutout": "crop-flip, then AutoAugment and a blacked-out square; the strong one for CIFAR",
    "imagenet": "random crop while reading, mirror and colour jitter; for photographs",
    "views": "a random one of the augmented views in a file of features (longtail features --augment)",
}
"""What each augmentation policy does, by its name."""


def policy(name: str) -> Augment:
    """The augmentation called `name`.

    Args:
        name: "none"; "crop" (by one pixel, for tiny images without mirror symmetry such as digits); "crop-flip" (the
            `ldam` recipe for CIFAR); "autoaugment-cutout" (the `balms` recipe for CIFAR); "imagenet" (flip and colour
            jitter, after the random crop that is taken while the image is read); "views" (of features, one of the
            augmented views that the file holds).

    Raises:
        InputError: for a name that does not exist, with the nearest ones.

    Example:
        >>> policy("crop-flip").num_uniforms
        3
    """
    if name not in _POLICIES:
        raise unknown_name("augmentation", name, POLICIES)
    reader_uniforms = {"imagenet": CROP_UNIFORMS, "views": 1}.get(name, 0)
    return Augment(_POLICIES[name](), reader_uniforms)
