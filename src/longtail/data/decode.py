"""Decode one image file to RGB pixels, or to the square view of it that a model sees.

Pillow reads the files, because torchvision's decoders are deprecated. Gray, palette, transparent, 16-bit, CMYK, rotated
(EXIF) and animated images all become uint8 RGB. `longtail.data.depth` scales gray values of more than 8 bits.

Shapes: H x W = image size, R = uniform random numbers per image.
"""

import contextlib
import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from longtail.data.dataset import Resize
from longtail.data.depth import significant_bits, to_eight_bits
from longtail.data.packed import read_bytes
from longtail.data.views import (
    CROP_UNIFORMS,
    Place,
    crop_box,
    cut_box,
    fit_image,
    framed,
    plain_box,
    resize_to_square,
    visible_part,
)
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
JPEG_FORMATS = ("JPEG", "MPO")
"""Names that Pillow gives to JPEG files."""
NEARLY_BLACK = 16
THUMB = (9, 8)
OVERSAMPLING = 2
"""Smallest number of pixels, per pixel of the view, at which a JPEG is decoded at a reduced scale."""


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
    """Settings that all images of a data set are decoded with, and fitted to the square.

    Args:
        bits: Bits that the gray values of more than 8 bits use, 8 to 16. None decides for each file.
        max_pixels: Largest number of pixels of an image. None takes the limit of Pillow, about 179 million.
        resize: Way to fit an image to the square that the model sees; see `longtail.data.views`.
    """

    bits: int | None = None
    max_pixels: int | None = None
    resize: Resize = "crop"


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

    Transparent pixels are composited on white, gray values of more than 8 bits are scaled as in `longtail.data.depth`,
    16-bit colors keep their high byte, the EXIF orientation is applied, and an animation gives its first frame.

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


def read_view(
    path: Path,
    size: int,
    how: Decoding = PLAIN,
    uniforms_R: Sequence[float] | None = None,
    content: bytes | None = None,
) -> Tensor:
    """Read the square view of an image that a model sees: the plain view, or a random crop.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, so that the crop keeps at least twice the pixels of the
    view in each direction. Its view differs slightly from that of a full decode: on photographs by 0.1 to 2 of the
    256 levels on average. Every other view equals `fit_image` or `random_resized_crop` of the decoded image.

    Args:
        path: Path of the file.
        size: Side of the view in pixels.
        how: Settings of the data set.
        uniforms_R: Numbers in [0, 1), of which the first four choose the random crop. None gives the plain view.
        content: Bytes of an image file to read in place of those of `path`.

    Returns:
        View, uint8, shape (3, size, size).

    Raises:
        BadImage: If the file cannot be read.
    """
    with _open(path, how, content) as image:
        scaled = None
        if image.format in JPEG_FORMATS:
            scaled = _draft(image, size, uniforms_R, how.resize)
        rgb, _ = _to_rgb(image, how)
        if scaled is not None:
            box, (top, left, bottom, right) = scaled
            part = _pixels(rgb.resize((right - left, bottom - top), Image.Resampling.BILINEAR, box=box))
            return part if part.shape[1:] == (size, size) else framed(part, (top, left, bottom, right), size)
        if uniforms_R is None:
            return fit_image(_pixels(rgb), size, how.resize)
        top, left, height, width = crop_box(rgb.height, rgb.width, uniforms_R[:CROP_UNIFORMS], how.resize)
        if how.resize == "pad":
            return cut_box(_pixels(rgb), (top, left, height, width), size)
        return resize_to_square(_pixels(rgb.crop((left, top, left + width, top + height))), size)


def read_reduced(path: Path, shorter: int, how: Decoding = PLAIN) -> Image.Image | None:
    """Read an image and reduce its shorter side. A large JPEG is decoded at a reduced scale, as in `read_view`.

    Args:
        path: Path of the file.
        shorter: Shorter side of the result in pixels.
        how: Settings of the data set.

    Returns:
        RGB image in its EXIF orientation, whose `format` is that of the file. None if the image is not larger, or holds
        gray values of more than 8 bits.

    Raises:
        BadImage: If the file cannot be read.
    """
    with _open(path, how) as image:
        divisor = _divisor(min(image.size), shorter)
        if divisor > 1:
            image.draft("RGB", (image.width // divisor, image.height // divisor))
        rgb, bits = _to_rgb(image, how)
        shortest = min(rgb.size)
        if bits is not None or shortest <= shorter:
            return None
        width, height = (int(shorter * side / shortest) for side in rgb.size)
        reduced = rgb.resize((width, height), Image.Resampling.BILINEAR)
        reduced.format = image.format
        return reduced


Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""
TURNED = (5, 6, 7, 8)
FLIPPED_X, FLIPPED_Y = (2, 3, 6, 7), (3, 4, 7, 8)
"""EXIF orientations that swap the sides, or reverse an axis of the upright image."""


def _draft(
    image: Image.Image, size: int, uniforms_R: Sequence[float] | None, resize: Resize
) -> tuple[Box, Place] | None:
    """Set the scale to decode a JPEG at; return the box to resize at that scale and its place in the view.

    None stands for the full scale.
    """
    orientation = _orientation(image)
    width, height = _upright(image, orientation)
    if uniforms_R is None:
        box = plain_box(height, width, size, resize)
    else:
        box = crop_box(height, width, uniforms_R[:CROP_UNIFORMS], resize)
    divisor = _divisor(min(box[2:]), size)
    if divisor == 1 or image.draft("RGB", (image.width // divisor, image.height // divisor)) is None:
        return None
    place: Place = (0, 0, size, size)
    if resize == "pad":
        box, place = visible_part(box, height, width, size)
    drafted_width, drafted_height = _upright(image, orientation)
    top, left, rows, columns = (each / divisor for each in box)
    # a side that is no multiple of the divisor was rounded up at the end that a flip makes its start
    left += drafted_width - width / divisor if orientation in FLIPPED_X else 0
    top += drafted_height - height / divisor if orientation in FLIPPED_Y else 0
    return (left, top, min(left + columns, drafted_width), min(top + rows, drafted_height)), place


def _divisor(side: float, wanted: int) -> int:
    """Return the divisor of the scale at which a JPEG still has more pixels along a side than wanted."""
    return next((each for each in (8, 4, 2) if side >= each * OVERSAMPLING * wanted), 1)


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):  # damaged EXIF tags are no reason to lose the image
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _upright(image: Image.Image, orientation: int) -> tuple[int, int]:
    return (image.height, image.width) if orientation in TURNED else image.size


def _pixels(rgb: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _facts(rgb: Image.Image, bits: int | None) -> ImageFacts:
    extrema: Any = rgb.getextrema()
    is_flat = all(low == high for low, high in extrema) or max(high for _, high in extrema) < NEARLY_BLACK
    thumb = np.array(rgb.convert("L").resize(THUMB, Image.Resampling.BOX))
    return ImageFacts(bits, is_flat, thumb)


def image_shape(path: Path, how: Decoding = PLAIN) -> tuple[int, int]:
    """Read height and width of the upright image in pixels from the header of the file.

    Args:
        path: Path of the file.
        how: Settings of the data set.

    Raises:
        BadImage: If the header cannot be read.
    """
    with _open(path, how) as image:
        width, height = _upright(image, _orientation(image))
        return height, width


@contextlib.contextmanager
def _open(path: Path, how: Decoding, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open an image. An error inside the block becomes a BadImage."""
    if how.max_pixels is not None and Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, how.max_pixels)
    try:
        data = read_bytes(path) if content is None else content
        if not data:
            raise ValueError("the file is empty")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if how.max_pixels is not None and image.width * image.height > how.max_pixels:
                raise ValueError(f"it has {image.width} x {image.height} pixels, more than `max_pixels` allows")
            if image.format == "PNG" and image.mode.startswith("I"):
                image.info["significant_bits"] = significant_bits(data)
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
        gray, bits = to_eight_bits(image, how.bits)
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
