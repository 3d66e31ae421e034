"""Gray values of more than 8 bits.

They are scaled from the number of bits that they use to 8 bits, by a shift. The number of bits is, in this order: that
of the data set (`Decoding.bits`); what the file states (the chunk sBIT of PNG, the tags MaxSampleValue and
BitsPerSample of TIFF); or the smallest of 8, 10, 12, 14 and 16 that holds the largest value of the file. Values that
need more bits than stated are never cut off: the larger number of bits applies.

Shapes: H x W = image size.
"""

from typing import Any

import numpy as np
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)


def to_eight_bits(image: Image.Image, bits: int | None) -> tuple[Image.Image, int]:
    """Return a gray image of more than 8 bits with 8 bits, and the number of bits that its values use.

    Args:
        image: Gray image of integers.
        bits: Bits to scale from. None takes those that the values use.

    Raises:
        ValueError: If a value is negative or has more than 16 bits.
    """
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


def significant_bits(png: bytes) -> int | None:
    """Return the number in the chunk sBIT of a gray PNG file, which Pillow skips.

    Args:
        png: Content of the file.
    """
    start = 8
    while start + 8 <= len(png) and png[start + 4 : start + 8] != b"IDAT":
        if png[start + 4 : start + 8] == b"sBIT":
            return max(8, min(16, png[start + 8]))
        start += 12 + int.from_bytes(png[start : start + 4])
    return None
