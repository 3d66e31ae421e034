"""Decode one image file to RGB pixels, and cut the square view of it that a model sees.

Pillow reads the files, because torchvision's decoders are deprecated. Gray, palette, transparent, 16-bit, CMYK, rotated
(EXIF) and animated images all become uint8 RGB.

Gray values of more than 8 bits are scaled from the number of bits that they use to 8 bits, by a shift. The number of
bits is, in this order: that of the data set (`Decoding.bits`); what the file states (the chunk sBIT of PNG, the tags
MaxSampleValue and BitsPerSample of TIFF); or the smallest of 8, 10, 12, 14 and 16 that holds the largest value of the
file. Values that need more bits than stated are never cut off: the larger number of bits applies.

Shapes: H x W = image size, R = uniform random numbers per image.
"""

import contextlib
import importlib.util
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from longtail.data.packed import read_bytes
from longtail.errors import InputError

# an explicit list: one of Pillow's other readers runs Ghostscript on its input
FORMATS: tuple[str, ...] = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp")
)
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
"""Suffixes of HEIF images, which the optional package `pillow-heif` reads (the extra `heif`)."""
if features.check("avif"):
    FORMATS, IMAGE_SUFFIXES = (*FORMATS, "AVIF"), IMAGE_SUFFIXES | {".avif"}
if importlib.util.find_spec("pillow_heif") is not None:
    import pillow_heif  # type: ignore[import-not-found, unused-ignore]

    pillow_heif.register_heif_opener()
    FORMATS, IMAGE_SUFFIXES = (*FORMATS, "HEIF"), IMAGE_SUFFIXES | HEIF_SUFFIXES
DEPTHS = (8, 10, 12, 14, 16)
NEARLY_BLACK = 16
THUMB = (9, 8)
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


@dataclass(frozen=True)
class Decoding:
    """Settings that all images of a data set are decoded with.

    Args:
        bits: Bits that the gray values of more than 8 bits use, 8 to 16. None decides for each file.
        max_pixels: Largest number of pixels of an image. None takes the limit of Pillow, about 179 million.
    """

    bits: int | None = None
    max_pixels: int | None = None


PLAIN = Decoding()


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """Properties of a decoded image, for the checks of a data set.

    Args:
        bits: Bits that its gray values use, if the file holds more than 8 bits; else None.
        is_flat: Whether all pixels have one color, or all are nearly black (below 16).
        thumb: Gray image of 9 x 8 pixels, uint8, shape (8, 9), to find near-duplicates.
    """

    bits: int | None
    is_flat: bool
    thumb: np.typing.NDArray[np.uint8]


def decode_image(path: Path, how: Decoding = PLAIN) -> Tensor:
    """Read an image file.

    Transparent pixels are composited on white, gray values of more than 8 bits are scaled as stated at the top of this
    module, 16-bit colors keep their high byte, the EXIF orientation is applied, and an animation gives its first frame.

    Args:
        path: Path of a BMP, GIF, JPEG, PNG, PNM, TIFF or WebP file, or of an AVIF or HEIF file if Pillow can read it.
        how: Settings of the data set.

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
    with _open(path, how) as image:
        return _pixels(_to_rgb(image, how)[0])


def read_image(path: Path, how: Decoding = PLAIN) -> tuple[Tensor, ImageFacts]:
    """Read an image file as `decode_image` does, together with its properties.

    Args:
        path: Path of the file.
        how: Settings of the data set.

    Raises:
        BadImage: If it cannot be read.
    """
    with _open(path, how) as image:
        rgb, bits = _to_rgb(image, how)
        return _pixels(rgb), _facts(rgb, bits)


def check_image(path: Path, how: Decoding = PLAIN) -> ImageFacts:
    """Check that `decode_image` can read a file.

    A large JPEG is decoded at a reduced size, down to an eighth, which is faster.

    Args:
        path: Path of the file.
        how: Settings of the data set.

    Raises:
        BadImage: If it cannot be read.
    """
    with _open(path, how) as image:
        image.draft("RGB", (8 * THUMB[0], 8 * THUMB[1]))
        return _facts(*_to_rgb(image, how))


def _pixels(rgb: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _facts(rgb: Image.Image, bits: int | None) -> ImageFacts:
    extrema: Any = rgb.getextrema()
    is_flat = all(low == high for low, high in extrema) or max(high for _, high in extrema) < NEARLY_BLACK
    thumb = np.array(rgb.convert("L").resize(THUMB, Image.Resampling.BOX))
    return ImageFacts(bits, is_flat, thumb)


def image_sides(path: Path, how: Decoding = PLAIN) -> tuple[int, int]:
    """Read the shorter and the longer side of an image in pixels from the header of the file.

    Args:
        path: Path of the file.
        how: Settings of the data set.

    Raises:
        BadImage: If the header cannot be read.
    """
    with _open(path, how) as image:
        return min(image.size), max(image.size)


@contextlib.contextmanager
def _open(path: Path, how: Decoding) -> Iterator[Image.Image]:
    """Open an image. An error inside the block becomes a BadImage."""
    if how.max_pixels is not None and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, how.max_pixels)
    try:
        data = read_bytes(path)
        if not data:
            raise ValueError("the file is empty")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if how.max_pixels is not None and image.width * image.height > how.max_pixels:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than `max_pixels` allows")
            if image.format == "PNG" and image.mode.startswith("I"):
                image.info["significant_bits"] = _significant_bits(data)
            yield image
    except Exception as error:  # decoders raise errors of any type on a damaged file
        raise BadImage(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is not an image in a supported format ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return "its number of pixels exceeds the limit of Pillow; raise `max_pixels` to accept it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _to_rgb(image: Image.Image, how: Decoding) -> tuple[Image.Image, int | None]:
    """Return the image as RGB, and the bits of gray values of more than 8 bits (None for other images)."""
    _apply_orientation(image)
    if image.mode.startswith("I"):
        gray, bits = _to_eight_bits(image, how.bits)
        return gray.convert("RGB"), bits
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits a channel")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB"), None
    return image.convert("RGB"), None


def _apply_orientation(image: Image.Image) -> None:
    image.load()  # outside the block below: damaged pixels are an error
    with contextlib.suppress(Exception):  # damaged EXIF tags are no reason to lose the image
        ImageOps.exif_transpose(image, in_place=True)


def _to_eight_bits(image: Image.Image, bits: int | None) -> tuple[Image.Image, int]:
    values_HW = np.array(image).astype(np.int64)
    highest = int(values_HW.max())
    if values_HW.min() < 0 or highest > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16 bits a channel")
    needed = next(depth for depth in DEPTHS if highest < 1 << depth)
    used = max(_stated_bits(image) or needed, highest.bit_length())
    # for 16 bits the high byte, as Pillow does for 16-bit color: white stays white, and gray agrees with color
    depth = used if bits is None else max(bits, highest.bit_length())
    return Image.fromarray((values_HW >> max(0, depth - 8)).astype(np.uint8)), used


def _stated_bits(image: Image.Image) -> int | None:
    """Return the bits that the gray values use according to the file, if it states them and not only its own depth."""
    if image.format == "PPM":
        return 16  # Pillow scales the values by the maximum in the header
    if image.format == "PNG":
        return image.info.get("significant_bits")
    tags = getattr(image, "tag_v2", {})  # only TIFF images have tags
    maximum, depth = _first(tags.get(281)), _first(tags.get(258))
    if maximum and 255 <= maximum < 65535:
        return max(8, int(maximum).bit_length())
    return depth if depth and 8 < depth < 16 else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _significant_bits(png: bytes) -> int | None:
    """Return the number in the chunk sBIT of a gray PNG file, which Pillow skips."""
    start = 8
    while start + 8 <= len(png) and png[start + 4 : start + 8] != b"IDAT":
        if png[start + 4 : start + 8] == b"sBIT":
            return max(8, min(16, png[start + 8]))
        start += 12 + int.from_bytes(png[start : start + 4])
    return None


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
