"""Find, check and decode many image files, and locate the folder of named data sets.

Shapes: N = images, S = side of the square that all images become.
"""

import logging
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail._io import is_stream
from longtail._threads import default_workers
from longtail.data.dataset import Resize
from longtail.data.decode import (
    IMAGE_SUFFIXES,
    PLAIN,
    BadImage,
    Decoding,
    ImageFacts,
    check_image,
    image_shape,
    read_image,
)
from longtail.data.formats.paths import on_disk
from longtail.data.packed import SUFFIX as TABLE_SUFFIX
from longtail.data.packed import all_packed_paths, is_packed, tables_in
from longtail.data.scan import EVERYTHING, PassedOver, Selection, walk
from longtail.data.views import SMALL, cut_share, fit_image
from longtail.errors import InputError, first_ten

OnBadImage = Literal["fail", "skip"]
Progress = Callable[[int, int], None]
"""Callback with the number of images done and the number of all images."""

SAMPLE = 64
LARGE = 224
CHUNK = 1024
LARGEST_CUT = 0.04
"""Largest share of the area of a median image that the central square may leave out before images are squashed."""


def data_root(root: str | None = None) -> Path:
    """Return the folder of named data sets: `root` if given, else $LONGTAIL_DATA, else ~/.cache/longtail.

    Args:
        root: Folder chosen by the user.

    Example:
        >>> data_root("photos").name
        'photos'
    """
    return Path(root or os.environ.get("LONGTAIL_DATA") or "~/.cache/longtail").expanduser()


def find_images(
    places: Sequence[Path], selection: Selection = EVERYTHING, path_column: str | None = None
) -> list[Path]:
    """List image files without labels, by the rule of `longtail.data.scan`. Log what is passed over.

    Args:
        places: Image files, which are taken whatever their names, folders to search at any depth, and Parquet tables
            with the bytes of images.
        selection: Choice of the files in the folders.
        path_column: Column of the images in the tables. Default: the first that holds bytes.

    Returns:
        Image files, in the order of `places`, those of a folder sorted.

    Raises:
        InputError: If a place does not exist, or there is no image.

    Example:
        >>> find_images([Path("nowhere.png")])
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: 1 of 1 files or folders do not exist:
          nowhere.png
    """
    places = [on_disk(place.expanduser()) for place in places]
    missing = [place for place in places if not (is_packed(place) or place.exists())]
    if missing:
        raise InputError(f"{len(missing)} of {len(places)} files or folders do not exist:\n{first_ten(missing)}")
    passed = PassedOver()
    images: list[Path] = []
    for place in places:
        if is_stream(place):
            raise InputError(f"{place} is a pipe or device; give a file, which can be read twice")
        tables = tables_in(place) if place.is_dir() else [place] if place.suffix.lower() == TABLE_SUFFIX else []
        if tables:
            images += [path for table in tables for path in all_packed_paths(table, path_column)]
        elif place.is_dir():
            images += sorted(place / name for name in walk(place, "", selection, passed))
        else:
            images.append(place)
    notes = passed.notes()
    if not images:
        raise InputError(
            f"no image in {', '.join(map(str, places))}; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}"
            + "".join(f"\n{note}" for note in notes)
        )
    for note in notes:
        logging.getLogger("longtail").warning(note)
    return images


def natural_size(paths: Sequence[Path], how: Decoding = PLAIN) -> int:
    """Choose the side of the square that suits the images, from the headers of up to 64 files.

    If all of them are small (at most 64 pixels), this is the most common shorter side, and the larger one of a tie.
    Otherwise it is 224.

    Args:
        paths: N image files.
        how: Settings to decode with.

    Raises:
        BadImage: If none of the headers can be read.
    """
    shapes, bad = sampled_shapes(paths, how)
    if not shapes:
        check_all(paths, "fail", how=how)  # names all files that cannot be read
        raise bad[0]
    if max(map(max, shapes)) > SMALL:
        return LARGE
    uses = Counter(map(min, shapes))
    return max(uses, key=lambda side: (uses[side], side))


def choose_resize(
    paths: Sequence[Path], size: int, wanted: Literal["auto"] | Resize, how: Decoding = PLAIN
) -> tuple[Resize, str]:
    """Choose the way to fit images to the square, from the headers of up to 64 files.

    "auto" becomes "squash" if the central square of a median image would leave out more than 4 % of its area, and
    "crop" otherwise.

    Args:
        paths: Training images.
        size: Side of the square in pixels.
        wanted: Choice of the user. "auto" decides.
        how: Settings to decode with.

    Returns:
        The way, and a sentence on what is seen of the images; "" if they are seen whole, as they are.
    """
    shapes, _ = sampled_shapes(paths, how)
    if wanted in ("squash", "pad") or not shapes:
        return ("crop" if wanted == "auto" else wanted), ""
    cut = statistics.median(cut_share(height, width, size) for height, width in shapes)
    if cut <= LARGEST_CUT:
        return "crop", ""
    if wanted == "crop":
        return "crop", (
            f"The central square that evaluation and prediction see leaves out {cut:.0%} of the area of a median "
            "image; `resize` squash or pad shows the whole picture."
        )
    return "squash", (
        f"The images are {_proportions(shapes)} and are squashed to squares: the whole picture is seen. `resize` crop "
        f"would leave out {cut:.0%} of the area of a median image, pad keeps the aspect ratio."
    )


def _proportions(shapes: Sequence[tuple[int, int]]) -> str:
    ratio = statistics.median(width / height for height, width in shapes)
    if 0.95 < ratio < 1.05:
        return "about as wide as high"
    return f"{ratio:.1f} times as wide as high" if ratio > 1 else f"{1 / ratio:.1f} times as high as wide"


def sampled_shapes(paths: Sequence[Path], how: Decoding) -> tuple[list[tuple[int, int]], list[BadImage]]:
    """Return height and width of up to 64 images, and the errors of others.

    Args:
        paths: N image files.
        how: Settings to decode with.
    """
    shapes, bad = [], []
    for index in sample(len(paths)):
        try:
            shapes.append(image_shape(paths[index], how))
        except BadImage as error:
            bad.append(error)
    return shapes, bad


def sample(count: int) -> list[int]:
    """Return up to 64 indices, evenly spaced from 0 to count - 1.

    Args:
        count: Number of images.
    """
    indices: list[int] = torch.linspace(0, count - 1, min(SAMPLE, count)).long().tolist()
    return indices


def sampled_bits(paths: Sequence[Path], how: Decoding = PLAIN) -> int | None:
    """Return the bits that the gray values of a data set use, from up to 64 files; None without deep images.

    Args:
        paths: N image files.
        how: Settings to decode with.
    """
    bits = []
    for index in sample(len(paths)):
        try:
            bits.append(check_image(paths[index], how).bits)
        except BadImage:  # reported when the image is needed
            continue
    return max((depth for depth in bits if depth is not None), default=None)


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Result of reading every image once.

    Args:
        readable: Indices of the images that can be read, ascending.
        bad: Errors of the other images.
        pixels: Images, uint8, shape (N, 3, S, S), undefined for bad images. None if the images were only checked.
        resized: Number of images that were not S x S pixels.
        bits: Bits that the gray values of more than 8 bits use over all images. None without such images.
        flat: Indices of the images of a single color.
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9), zero for bad images. None if no image was read.
    """

    readable: Tensor
    bad: tuple[BadImage, ...]
    pixels: Tensor | None = None
    resized: int = 0
    bits: int | None = None
    flat: tuple[int, ...] = ()
    thumbs: Tensor | None = None


def decode_all(
    paths: Sequence[Path], size: int, on_bad: OnBadImage, on_progress: Progress | None = None, how: Decoding = PLAIN
) -> DecodedImages:
    """Decode every image into one tensor, with one thread per core.

    Args:
        paths: N image files.
        size: Side of the square in pixels.
        on_bad: "fail" raises an error that names the images that cannot be read; "skip" continues without them.
        on_progress: Callback for progress.
        how: Settings to decode with. Without `bits`, those of all images together apply.

    Raises:
        BadImage: If one image cannot be read and `on_bad` is "fail".
        InputError: If several images cannot be read and `on_bad` is "fail".
    """
    pixels = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    is_resized_N = torch.zeros(len(paths), dtype=torch.bool)

    def decode(index: int, how: Decoding) -> ImageFacts:
        image, facts = read_image(paths[index], how)
        is_resized_N[index] = image.shape != pixels.shape[1:]
        pixels[index] = fit_image(image, size, how.resize)
        return facts

    facts, bad = _for_each(lambda index: decode(index, how), paths, on_bad, on_progress)
    bits = _bits(facts, how)
    for index, each in facts.items():
        if each.bits not in (None, bits):  # scale all images of the set alike
            facts[index] = decode(index, replace(how, bits=bits))
    return _decoded(len(paths), facts, bad, bits, pixels, int(is_resized_N.sum()))


def check_all(
    paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None = None, how: Decoding = PLAIN
) -> DecodedImages:
    """Check that every image can be read, with one thread per core.

    Args:
        paths: N image files.
        on_bad: "fail" raises an error that names the images that cannot be read; "skip" continues without them.
        on_progress: Callback for progress.
        how: Settings to decode with.

    Raises:
        BadImage: If one image cannot be read and `on_bad` is "fail".
        InputError: If several images cannot be read and `on_bad` is "fail".
    """
    facts, bad = _for_each(lambda index: check_image(paths[index], how), paths, on_bad, on_progress)
    return _decoded(len(paths), facts, bad, _bits(facts, how))


def _bits(facts: dict[int, ImageFacts], how: Decoding) -> int | None:
    found = [each.bits for each in facts.values() if each.bits is not None]
    return (max(found) if how.bits is None else how.bits) if found else None


def _decoded(
    count: int,
    facts: dict[int, ImageFacts],
    bad: tuple[BadImage, ...],
    bits: int | None,
    pixels: Tensor | None = None,
    resized: int = 0,
) -> DecodedImages:
    thumbs = torch.zeros(count, 8, 9, dtype=torch.uint8)
    for index, each in facts.items():
        thumbs[index] = torch.from_numpy(each.thumb)
    flat = tuple(index for index, each in facts.items() if each.is_flat)
    return DecodedImages(torch.tensor([*facts], dtype=torch.int64), bad, pixels, resized, bits, flat, thumbs)


def _for_each(
    work: Callable[[int], ImageFacts], paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None
) -> tuple[dict[int, ImageFacts], tuple[BadImage, ...]]:
    """Do the work for each index. Return the results by index, ascending, and the errors of the others."""

    def attempt(index: int) -> ImageFacts | BadImage:
        try:
            return work(index)
        except BadImage as bad:
            return bad

    outcomes: list[ImageFacts | BadImage] = []
    with ThreadPoolExecutor(default_workers()) as pool:
        for start in range(0, len(paths), CHUNK):
            outcomes += pool.map(attempt, range(start, min(start + CHUNK, len(paths))))
            if on_progress is not None:
                on_progress(len(outcomes), len(paths))
    bad = tuple(outcome for outcome in outcomes if isinstance(outcome, BadImage))
    if bad and on_bad == "fail":
        raise _unreadable(bad, len(paths))
    facts = {index: each for index, each in enumerate(outcomes) if not isinstance(each, BadImage)}
    return facts, bad


def _unreadable(bad: Sequence[BadImage], count: int) -> InputError:
    """Return the error that names the images that cannot be read; of more than ten, a file names all."""
    if len(bad) == 1:
        return bad[0]
    lines = [f"{error.path}: {error.reason}" for error in bad]
    more = ""
    if len(bad) > 10:
        with tempfile.NamedTemporaryFile(
            "w", prefix="longtail-unreadable-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write("\n".join(lines) + "\n")
        more = f"\nall of them: {file.name}"
    return InputError(
        f"{len(bad):,} of {count:,} images cannot be read; repair or remove them, "
        f'or set `on_bad_image` to "skip" to leave unreadable images out:\n{first_ten(lines)}{more}'
    )
