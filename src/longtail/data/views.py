"""The square views of an image that a model sees: the plain view for evaluation, and a random crop for training.

Images are fitted to the square in one of three ways:

- "crop": the aspect ratio is kept, and the plain view is the central square. Parts of the image are not seen.
- "squash": both sides are resized to the square, so that the plain view shows the whole image. Random crops are drawn
  in the squashed image and have its distortion, with the usual 8 to 100 % of its area.
- "pad": the aspect ratio is kept, and the shorter side is filled up with gray. Random crops have 8 to 100 % of the area
  of the padded square. A crop that is longer than a side of the image contains this side whole.

Shapes: H x W = image size, R = uniform random numbers per image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from longtail.data.dataset import Resize

Box = tuple[float, float, float, float]
"""Top, left, height and width in pixels of the image. A padded view exceeds the image."""
Place = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels of the view."""
CROP_UNIFORMS = 4
"""Random numbers that choose a random crop."""
SMALL = 64
"""Largest side of an image, in pixels, whose plain view is not cropped and that is kept in memory."""
PADDING = (124, 116, 104)
"""Color of the padding: the mean color of ImageNet, which the usual normalization maps to zero."""


def fit_image(pixels: Tensor, size: int, resize: Resize = "crop") -> Tensor:
    """Return the plain view for evaluation. Every resize is bilinear and antialiased.

    With "crop", the image is resized and its central square is taken. Above 64 pixels, the shorter side becomes size *
    256 / 224, so that the crop drops the border, as is usual for ImageNet. Up to 64 pixels, it becomes `size`.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        size: Side of the view in pixels.
        resize: Way to fit the image to the square.

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
    if resize != "crop":
        return cut_box(pixels, plain_box(height, width, size, resize), size)
    from torchvision.transforms.v2 import functional as transforms  # takes longer to import than torch itself

    resized: Tensor = transforms.resize(_crop_far_ends(pixels), [shorter_side(size)], antialias=True)
    return transforms.center_crop(resized, [size, size])  # type: ignore[no-any-return]


def cut_box(pixels: Tensor, box: Box, size: int) -> Tensor:
    """Resize a part of an image to a square. What exceeds the image is filled with `PADDING`.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        box: Top, left, height and width of the part in pixels; edges are rounded to whole pixels.
        size: Side of the square in pixels.

    Example:
        >>> import torch
        >>> cut_box(torch.zeros(3, 2, 4, dtype=torch.uint8), (-1, 0, 4, 4), 4)[0]
        tensor([[124, 124, 124, 124],
                [  0,   0,   0,   0],
                [  0,   0,   0,   0],
                [124, 124, 124, 124]], dtype=torch.uint8)
    """
    (top, left, rows, columns), place = visible_part(box, pixels.shape[-2], pixels.shape[-1], size)
    part = pixels[:, top : top + rows, left : left + columns]
    height, width = place[2] - place[0], place[3] - place[1]
    if height == width == size:
        return resize_to_square(part, size)
    from torchvision.transforms.v2 import functional as transforms

    return framed(transforms.resize(part, [height, width], antialias=True), place, size)


def framed(pixels: Tensor, place: Place, size: int) -> Tensor:
    """Put an image into a square of the color `PADDING`.

    Args:
        pixels: Image of the size of the place, uint8, shape (3, h, w).
        place: Place in the square.
        size: Side of the square in pixels.
    """
    top, left, bottom, right = place
    view = torch.tensor(PADDING, dtype=torch.uint8)[:, None, None].repeat(1, size, size)
    view[:, top:bottom, left:right] = pixels
    return view


def visible_part(box: Box, height: int, width: int, size: int) -> tuple[tuple[int, int, int, int], Place]:
    """Return the part of an image inside a box, and its place in a square view of the box.

    Args:
        box: Top, left, height and width in pixels.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the view in pixels.

    Example:
        >>> visible_part((-100, 0, 400, 400), 200, 400, 224)
        ((0, 0, 200, 400), (56, 0, 168, 224))
    """
    top, rows, first_row, last_row = _visible(box[0], box[2], height, size)
    left, columns, first_column, last_column = _visible(box[1], box[3], width, size)
    return (top, left, rows, columns), (first_row, first_column, last_row, last_column)


def _visible(start: float, length: float, side: int, size: int) -> tuple[int, int, int, int]:
    """Return start and length of what a box shows of one side of an image, and where its view starts and ends."""
    first = min(max(0, round(start)), side - 1)
    last = max(min(side, round(start + length)), first + 1)
    low = min(round((first - start) * size / length), size - 1)
    return first, last - first, low, max(low + 1, min(size, round((last - start) * size / length)))


def shorter_side(size: int) -> int:
    """Return the shorter side of a resized image, of which the plain view is the central square.

    Args:
        size: Side of the view in pixels.

    Example:
        >>> shorter_side(224), shorter_side(32)
        (256, 32)
    """
    return size if size <= SMALL else round(size * 256 / 224)


def plain_box(height: int, width: int, size: int, resize: Resize = "crop") -> Box:
    """Compute top, left, height and width, in pixels of the image, of the part that `fit_image` shows.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the view in pixels.
        resize: Way to fit the image to the square.

    Example:
        >>> plain_box(512, 1024, 224), plain_box(512, 1024, 224, "pad")
        ((32.0, 288.0, 448.0, 448.0), (-256.0, 0.0, 1024, 1024))
    """
    if resize == "squash":
        return 0, 0, height, width
    if resize == "pad":
        side = max(height, width)
        return (height - side) / 2, (width - side) / 2, side, side
    shorter = shorter_side(size)
    shortest = min(height, width)
    rows, columns = int(shorter * height / shortest), int(shorter * width / shortest)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return top * height / rows, left * width / columns, size * height / rows, size * width / columns


def cut_share(height: int, width: int, size: int) -> float:
    """Compute the share of the area of an image that the plain view of "crop" leaves out, in [0, 1).

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        size: Side of the view in pixels.

    Example:
        >>> round(cut_share(384, 512, 224), 3), cut_share(32, 32, 32), round(cut_share(48, 64, 32), 3)
        (0.425, 0.0, 0.238)
    """
    _, _, rows, columns = plain_box(height, width, size)
    return max(0.0, 1 - rows * columns / (height * width))


def _crop_far_ends(pixels: Tensor) -> Tensor:
    """Bound the memory for resizing a very long image. The removed pixels are far outside the center crop."""
    height, width = pixels.shape[-2:]
    longest = 4 * min(height, width)
    cut_y, cut_x = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[:, cut_y : height - cut_y, cut_x : width - cut_x]


def random_resized_crop(pixels: Tensor, uniforms_R: Tensor, size: int, resize: Resize = "crop") -> Tensor:
    """Crop a random part of the image and resize it to a square, as torchvision's RandomResizedCrop (Inception crop).

    The crop has 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, both of the image as it is fitted to the
    square. If it exceeds the image, torchvision draws again, up to ten times. Here, it is shrunk until it fits, so that
    an image needs exactly four random numbers.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        uniforms_R: Numbers in [0, 1). The first four choose area, log aspect ratio, top and left.
        size: Side of the result in pixels.
        resize: Way to fit the image to the square.

    Returns:
        Crop, uint8, shape (3, size, size).

    Example:
        >>> import torch
        >>> random_resized_crop(torch.zeros(3, 60, 80, dtype=torch.uint8), torch.rand(4), 32).shape
        torch.Size([3, 32, 32])
    """
    box = crop_box(pixels.shape[-2], pixels.shape[-1], uniforms_R[:CROP_UNIFORMS].tolist(), resize)
    return cut_box(pixels, box, size)


def resize_to_square(pixels: Tensor, size: int) -> Tensor:
    """Resize an image to a square, bilinear and antialiased.

    Args:
        pixels: Image, uint8, shape (3, H, W).
        size: Side of the square in pixels.
    """
    from torchvision.transforms.v2 import functional as transforms  # takes longer to import than torch itself

    return transforms.resize(pixels, [size, size], antialias=True)  # type: ignore[no-any-return]


def crop_box(height: int, width: int, uniforms: Sequence[float], resize: Resize = "crop") -> tuple[int, int, int, int]:
    """Compute top, left, height and width in pixels of the crop that four uniform numbers choose.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        uniforms: Numbers in [0, 1) for area, log aspect ratio, top and left.
        resize: Way to fit the image to the square.

    Example:
        >>> crop_box(100, 100, [0.1848, 0.5, 0.5, 0.0])
        (25, 0, 50, 50)
        >>> crop_box(100, 400, [0.1848, 0.5, 0.5, 0.0], "squash")
        (25, 0, 50, 200)
    """
    area, ratio, top, left = uniforms
    share = 0.08 + 0.92 * area
    aspect = (3 / 4) * (16 / 9) ** ratio  # uniform in the logarithm, from 3/4 to 4/3
    if resize == "squash":
        aspect *= width / height  # the squashed crop has the aspect ratio that was drawn
    rows, columns = (max(height, width),) * 2 if resize == "pad" else (height, width)
    wanted = rows * columns * share
    crop_width, crop_height = math.sqrt(wanted * aspect), math.sqrt(wanted / aspect)
    shrink = min(1.0, columns / crop_width, rows / crop_height)
    rows = min(rows, max(1, round(crop_height * shrink)))
    columns = min(columns, max(1, round(crop_width * shrink)))
    return _start(top, height, rows), _start(left, width, columns), rows, columns


def _start(uniform: float, side: int, length: int) -> int:
    """Return the first pixel of a crop inside the side of an image, or around it if the crop is longer."""
    slack = abs(side - length)
    # a float32 just below one times a large number may round up to that number
    start = min(int(uniform * (slack + 1)), slack)
    return start if length <= side else -start
