"""Decode one image file to RGB pixels, and cut the square view of it that a model sees.

Pillow reads the files, because torchvision's decoders are deprecated. Gray, palette, transparent, 16-bit, CMYK, rotated
(EXIF) and animated images all become uint8 RGB.

Shapes: H x W = image size, R = uniform random numbers per image.
"""

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from longtail.errors import InputError

# an explicit list: one of Pillow's other readers runs Ghostscript on its input
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp")
)
CROP_UNIFORMS = 4
SMALL = 64


class BadImage(InputError):  # noqa: N818 (the file is bad, not the program)
    """A file that cannot be read as an image.

    Args:
        path: Path of the file.
        reason: Why it cannot be read.

    Example:
        >>> raise BadImage(Path("cat/1.jpg"), "the file is empty")
        Traceback (most recent call last):
        ...
        longtail.data.decode.BadImage: cannot read the image cat/1.jpg: the file is empty; repair or remove it, ...
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot read the image {path}: {reason}; repair or remove it, "
            'or set `on_bad_image` to "skip" to leave unreadable images out'
        )
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[Path, str]]:
        return BadImage, (self.path, self.reason)


def decode_image(path: Path) -> Tensor:
    """Read an image file.

    Transparent pixels are composited on white, 16-bit values keep their high byte, the EXIF orientation is applied, and
    an animation gives its first frame.

    Args:
        path: Path of a BMP, GIF, JPEG, PNG, PNM, TIFF or WebP file.

    Returns:
        RGB pixels, uint8, shape (3, H, W).

    Raises:
        BadImage: If the file does not exist, is empty or truncated, or is not an image.

    Example:
        >>> decode_image(Path("nowhere.png"))
        Traceback (most recent call last):
        ...
        longtail.data.decode.BadImage: cannot read the image nowhere.png: No such file or directory; ...
    """
    with _open(path) as image:
        pixels = np.array(_to_rgb(image))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_image(path: Path) -> None:
    """Check that `decode_image` can read a file. A JPEG is decoded at an eighth of its size, which is faster.

    Args:
        path: Path of the file.

    Raises:
        BadImage: If it cannot be read.
    """
    with _open(path) as image:
        image.draft("RGB", (1, 1))
        _to_rgb(image)


def image_sides(path: Path) -> tuple[int, int]:
    """Read the shorter and the longer side of an image in pixels from the header of the file.

    Args:
        path: Path of the file.

    Raises:
        BadImage: If the header cannot be read.
    """
    with _open(path) as image:
        return min(image.size), max(image.size)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Image.Image]:
    """Open an image. An error inside the block becomes a BadImage."""
    try:
        data = path.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except Exception as error:  # decoders raise errors of any type on a damaged file
        raise BadImage(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is not an image in a supported format ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    _apply_orientation(image)
    if image.mode.startswith("I"):
        return _to_eight_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _apply_orientation(image: Image.Image) -> None:
    image.load()  # outside the block below: damaged pixels are an error
    with contextlib.suppress(Exception):  # damaged EXIF tags are no reason to lose the image
        ImageOps.exif_transpose(image, in_place=True)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values_HW = np.array(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16 bits a channel")
    # the high byte, as Pillow does for 16-bit color: white stays white, and gray agrees with color
    return Image.fromarray((values_HW >> 8).astype(np.uint8))


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
        >>> fit_image(torch.zeros(3, 300, 500, dtype=torch.uint8), 224).shape
        torch.Size([3, 224, 224])
    """
    height, width = pixels.shape[-2:]
    if height == width == size:
        return pixels
    shorter = size if size <= SMALL else round(size * 256 / 224)
    resized: Tensor = transforms.resize(_crop_far_ends(pixels), [shorter], antialias=True)
    return transforms.center_crop(resized, [size, size])  # type: ignore[no-any-return]


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
        >>> random_resized_crop(torch.zeros(3, 60, 80, dtype=torch.uint8), torch.rand(4), 32).shape
        torch.Size([3, 32, 32])
    """
    top, left, height, width = crop_box(pixels.shape[-2], pixels.shape[-1], uniforms_R[:CROP_UNIFORMS].tolist())
    crop = pixels[:, top : top + height, left : left + width]
    return transforms.resize(crop, [size, size], antialias=True)  # type: ignore[no-any-return]


def crop_box(height: int, width: int, uniforms: list[float]) -> tuple[int, int, int, int]:
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
