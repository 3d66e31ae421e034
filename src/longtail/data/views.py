"""The square views of an image that a model sees: the plain view for evaluation, and a random crop for training.

Shapes: H x W = image size, R = uniform random numbers per image.
"""

import math
from collections.abc import Sequence

from torch import Tensor

CROP_UNIFORMS = 4
"""Random numbers that choose a random crop."""
SMALL = 64
"""Largest side of an image, in pixels, whose plain view is not cropped and that is kept in memory."""


def fit_image(pixels: Tensor, size: int) -> Tensor:
    """Return the plain view for evaluation: resize the image, then crop the central square.

    Above 64 pixels, the shorter side becomes size * 256 / 224, so that the crop drops the border, as is usual for
    ImageNet. Up to 64 pixels, it becomes `size`. The resize is bilinear and antialiased.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        size: Side of the view in pixels.

    Returns:
        View, uint8, shape (3, size, size). An image of that size is returned unchanged.

    Example:
        >>> import torch
        >>> fit_image(torch.zeros(3, 300, 500, dtype=torch.uint8), 224).shape
        torch.Size([3, 224, 224])
    """
    height, width = pixels.shape[-2:]
    if height == width == size:
        return pixels
    from torchvision.transforms.v2 import functional as transforms  # takes longer to import than torch itself

    resized: Tensor = transforms.resize(_crop_far_ends(pixels), [shorter_side(size)], antialias=True)
    return transforms.center_crop(resized, [size, size])  # type: ignore[no-any-return]


def shorter_side(size: int) -> int:
    """Return the shorter side of a resized image, of which the plain view is the central square.

    Args:
        size: Side of the view in pixels.

    Example:
        >>> shorter_side(224), shorter_side(32)
        (256, 32)
    """
    return size if size <= SMALL else round(size * 256 / 224)


def plain_box(height: int, width: int, size: int) -> tuple[float, float, float, float]:
    """Compute top, left, height and width, in pixels of the image, of the central square that `fit_image` shows.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the view in pixels.

    Example:
        >>> plain_box(512, 1024, 224)
        (32.0, 288.0, 448.0, 448.0)
    """
    shorter = shorter_side(size)
    shortest = min(height, width)
    rows, columns = int(shorter * height / shortest), int(shorter * width / shortest)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return top * height / rows, left * width / columns, size * height / rows, size * width / columns


def _crop_far_ends(pixels: Tensor) -> Tensor:
    """Bound the memory for resizing a very long image. The removed pixels are far outside the center crop."""
    height, width = pixels.shape[-2:]
    longest = 4 * min(height, width)
    cut_y, cut_x = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[:, cut_y : height - cut_y, cut_x : width - cut_x]


def random_resized_crop(pixels: Tensor, uniforms_R: Tensor, size: int) -> Tensor:
    """Crop a random part of the image and resize it to a square, as torchvision's RandomResizedCrop (Inception crop).

    The crop has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3. If it exceeds the image, torchvision draws
    again, up to ten times. Here, it is shrunk until it fits, so that an image needs exactly four random numbers.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        uniforms_R: Numbers in [0, 1). The first four choose area, log aspect ratio, top and left.
        size: Side of the result in pixels.

    Returns:
        Crop, uint8, shape (3, size, size).

    Example:
        >>> import torch
        >>> random_resized_crop(torch.zeros(3, 60, 80, dtype=torch.uint8), torch.rand(4), 32).shape
        torch.Size([3, 32, 32])
    """
    top, left, height, width = crop_box(pixels.shape[-2], pixels.shape[-1], uniforms_R[:CROP_UNIFORMS].tolist())
    return resize_to_square(pixels[:, top : top + height, left : left + width], size)


def resize_to_square(pixels: Tensor, size: int) -> Tensor:
    """Resize an image to a square, bilinear and antialiased.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        size: Side of the square in pixels.
    """
    from torchvision.transforms.v2 import functional as transforms  # takes longer to import than torch itself

    return transforms.resize(pixels, [size, size], antialias=True)  # type: ignore[no-any-return]


def crop_box(height: int, width: int, uniforms: Sequence[float]) -> tuple[int, int, int, int]:
    """Compute top, left, height and width in pixels of the crop that four uniform numbers choose.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        uniforms: Numbers in [0, 1) for area, log aspect ratio, top and left.

    Example:
        >>> crop_box(100, 100, [0.1848, 0.5, 0.5, 0.0])
        (25, 0, 50, 50)
    """
    area, ratio, top, left = uniforms
    wanted = height * width * (0.08 + 0.92 * area)
    aspect = (3 / 4) * (16 / 9) ** ratio  # uniform in the logarithm, from 3/4 to 4/3
    crop_width, crop_height = math.sqrt(wanted * aspect), math.sqrt(wanted / aspect)
    shrink = min(1.0, width / crop_width, height / crop_height)
    rows = min(height, max(1, round(crop_height * shrink)))
    columns = min(width, max(1, round(crop_width * shrink)))
    # a float32 just below one times a large number may round up to that number
    first_row = min(int(top * (height - rows + 1)), height - rows)
    first_column = min(int(left * (width - columns + 1)), width - columns)
    return first_row, first_column, rows, columns
