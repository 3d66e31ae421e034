"""One image file as RGB pixels, and the square view of it that a net sees.

Pillow reads the files, as torchvision's own decoders are to be removed. Whatever a file holds (grey, palette,
transparent, 16-bit, CMYK, turned by its EXIF tag, animated) becomes uint8 RGB.

Shapes: H x W = image size, R = uniform random numbers of an image.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from longtail.errors import InputError

# named one by one: among Pillow's other readers is one that runs Ghostscript on what it is given
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
IMAGE_SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".pbm", ".pgm", ".ppm", ".pnm", ".tif", ".tiff", ".webp")
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
CROP_UNIFORMS = 4
SMALL = 64


class BadImage(InputError):  # noqa: N818 (named after what it is about, as a file is bad, not the program)
    """A file that cannot be read as an image.

    Args:
        path: of the file.
        reason: why, in words.

    Example:
        >>> raise BadImage(Path("cat/1.jpg"), "the file is empty")
        Traceback (most recent call last):
        ...
        longtail.data.decode.BadImage: cannot read the image cat/1.jpg: the file is empty; mend or remove it, ...
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"cannot read the image {path}: {reason}; mend or remove it, "
            "or leave unreadable images out with --on-bad-image skip"
        )
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type["BadImage"], tuple[Path, str]]:
        return BadImage, (self.path, self.reason)


def decode_image(path: Path) -> Tensor:
    """Read an image file.

    Transparent pixels are laid on white, 16-bit values keep their high byte, the EXIF orientation is applied, an
    animation gives its first frame.

    Args:
        path: of a BMP, GIF, JPEG, PNG, PNM, TIFF or WebP file.

    Returns:
        uint8 (3, H, W), RGB.

    Raises:
        BadImage: if there is no such file, or it is empty, truncated or no image.

    Example:
        >>> decode_image(Path("nowhere.png"))
        Traceback (most recent call last):
        ...
        longtail.data.decode.BadImage: cannot read the image nowhere.png: No such file or directory; ...
    """
    with _opened(path) as image:
        pixels = np.array(_as_rgb(image))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def check_image(path: Path) -> None:
    """Make sure that `decode_image` will read a file; a JPEG is decoded at an eighth of its size, which is faster.

    Raises:
        BadImage: as `decode_image`.
    """
    with _opened(path) as image:
        image.draft("RGB", (1, 1))
        _as_rgb(image)


def image_sides(path: Path) -> tuple[int, int]:
    """Shorter and longer side of an image in pixels, from the head of the file alone.

    Raises:
        BadImage: if the head cannot be read.
    """
    with _opened(path) as image:
        return min(image.size), max(image.size)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file; what goes wrong inside the block becomes a BadImage."""
    try:
        data = path.read_bytes()
        if not data:
            raise ValueError("the file is empty")
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            yield image
    except Exception as error:  # decoders meet a damaged file with errors of any type
        raise BadImage(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of a kind that can be read ({', '.join(FORMATS)})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _as_rgb(image: Image.Image) -> Image.Image:
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return _eight_bit(upright).convert("RGB")
    if upright.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits a channel")
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # first, for it turns a TIFF and takes the tag away
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the tags are damaged: no reason to lose the pixels
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bit(image: Image.Image) -> Image.Image:
    values_HW = np.array(image).astype(np.int64)
    if values_HW.min() < 0 or values_HW.max() > 65535:
        raise ValueError("its pixels have more than 16 bits; save it with 8 or 16 bits a channel")
    # the high byte, as Pillow does with 16-bit colour: white stays white, and grey agrees with colour
    return Image.fromarray((values_HW >> 8).astype(np.uint8))


def fit_image(pixels: Tensor, size: int) -> Tensor:
    """The plain view for evaluation: resized, then the square in the centre.

    Above 64 pixels the shorter side becomes size * 256 / 224, so that the crop leaves the rim out, as is usual for
    ImageNet; up to 64 pixels it becomes `size`. Antialiased, bilinear.

    Args:
        pixels: uint8 (3, H, W).
        size: side of the view in pixels.

    Returns:
        uint8 (3, size, size); an image of that size already is returned as it is, bit for bit.

    Example:
        >>> fit_image(torch.zeros(3, 300, 500, dtype=torch.uint8), 224).shape
        torch.Size([3, 224, 224])
    """
    height, width = pixels.shape[-2:]
    if height == width == size:
        return pixels
    shorter = size if size <= SMALL else round(size * 256 / 224)
    resized: Tensor = transforms.resize(_without_far_ends(pixels), [shorter], antialias=True)
    return transforms.center_crop(resized, [size, size])  # type: ignore[no-any-return]


def _without_far_ends(pixels: Tensor) -> Tensor:
    """Bounds the memory that resizing a very long image takes; what is cut lies far outside the centre."""
    height, width = pixels.shape[-2:]
    longest = 4 * min(height, width)
    cut_y, cut_x = max(0, height - longest) // 2, max(0, width - longest) // 2
    return pixels[:, cut_y : height - cut_y, cut_x : width - cut_x]


def random_resized_crop(pixels: Tensor, uniforms_R: Tensor, size: int) -> Tensor:
    """A random part of the image, resized to a square: the Inception crop, as torchvision's RandomResizedCrop.

    Area 8 to 100 % of the image, aspect 3/4 to 4/3. Torchvision draws again, up to ten times, when the crop is larger
    than the image; here it is shrunk until it fits, so that four numbers are all that an image needs.

    Args:
        pixels: uint8 (3, H, W).
        uniforms_R: numbers in [0, 1); the first four choose area, log-aspect, top and left.
        size: side of the result in pixels.

    Returns:
        uint8 (3, size, size).

    Example:
        >>> random_resized_crop(torch.zeros(3, 60, 80, dtype=torch.uint8), torch.rand(4), 32).shape
        torch.Size([3, 32, 32])
    """
    top, left, height, width = crop_box(pixels.shape[-2], pixels.shape[-1], uniforms_R[:CROP_UNIFORMS].tolist())
    crop = pixels[:, top : top + height, left : left + width]
    return transforms.resize(crop, [size, size], antialias=True)  # type: ignore[no-any-return]


def crop_box(height: int, width: int, uniforms: list[float]) -> tuple[int, int, int, int]:
    """Top, left, height and width in pixels of the crop that four uniform numbers choose.

    Example:
        >>> crop_box(100, 100, [0.1848, 0.5, 0.5, 0.0])
        (25, 0, 50, 50)
    """
    area, ratio, top, left = uniforms
    wanted = height * width * (0.08 + 0.92 * area)
    aspect = (3 / 4) * (16 / 9) ** ratio  # even in the logarithm, from 3/4 to 4/3
    crop_width, crop_height = math.sqrt(wanted * aspect), math.sqrt(wanted / aspect)
    shrink = min(1.0, width / crop_width, height / crop_height)
    rows = min(height, max(1, round(crop_height * shrink)))
    columns = min(width, max(1, round(crop_width * shrink)))
    # a float32 just below one times a large number may round up to it
    first_row = min(int(top * (height - rows + 1)), height - rows)
    first_column = min(int(left * (width - columns + 1)), width - columns)
    return first_row, first_column, rows, columns
