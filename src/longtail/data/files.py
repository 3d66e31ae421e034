"""Find, check and decode many image files, and locate the folder of named data sets.

Shapes: N = images, S = side of the square that all images become.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail.data.decode import IMAGE_SUFFIXES, SMALL, BadImage, check_image, decode_image, fit_image, image_sides
from longtail.data.stream import default_workers
from longtail.errors import InputError, first_ten

OnBadImage = Literal["fail", "skip"]
Progress = Callable[[int, int], None]
"""Callback with the number of images done and the number of all images."""

SAMPLE = 64
LARGE = 224
CHUNK = 1024


def data_root(root: str | None = None) -> Path:
    """Return the folder of named data sets: `root` if given, else $LONGTAIL_DATA, else ~/.cache/longtail.

    Args:
        root: Folder chosen by the user.

    Example:
        >>> data_root("photos").name
        'photos'
    """
    return Path(root or os.environ.get("LONGTAIL_DATA") or "~/.cache/longtail").expanduser()


def find_images(places: Sequence[Path]) -> list[Path]:
    """List image files without labels.

    Args:
        places: Image files, and folders to search at any depth.

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
    missing = [place for place in places if not place.exists()]
    if missing:
        raise InputError(f"{len(missing)} of {len(places)} files or folders do not exist:\n{first_ten(missing)}")
    found = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    images = [path for path in found if path in places or _has_image_name(path)]
    if not images:
        raise InputError(
            f"no image in {', '.join(map(str, places))}; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return images


def _has_image_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def bad_images(paths: Sequence[Path]) -> dict[Path, str]:
    """Find the files that cannot be read as images.

    Args:
        paths: Image files.

    Returns:
        Reason by path.

    Example:
        >>> list(bad_images([Path("nowhere.png")]).values())
        ['No such file or directory']
    """
    bad = {}
    for path in paths:
        try:
            check_image(path)
        except BadImage as error:
            bad[path] = error.reason
    return bad


def natural_size(paths: Sequence[Path]) -> int:
    """Choose the side of the square that suits the images, from the headers of up to 64 files.

    If all of them are small (at most 64 pixels), this is the most common shorter side, and the larger one of a tie.
    Otherwise it is 224.

    Args:
        paths: N image files.

    Raises:
        BadImage: If none of the headers can be read.
    """
    picked = torch.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).long().tolist()
    sides, bad = [], []
    for index in picked:
        try:
            sides.append(image_sides(paths[index]))
        except BadImage as error:
            bad.append(error)
    if not sides:
        raise bad[0]
    if max(longer for _, longer in sides) > SMALL:
        return LARGE
    uses = Counter(shorter for shorter, _ in sides)
    return max(uses, key=lambda side: (uses[side], side))


@dataclass(frozen=True, eq=False)
class DecodedImages:
    """Result of reading every image once.

    Args:
        readable: Indices of the images that can be read, ascending.
        bad: Errors of the other images.
        pixels: Images, uint8, shape (N, 3, S, S), undefined for bad images. None if the images were only checked.
        resized: Number of images that were not S x S pixels.
    """

    readable: Tensor
    bad: tuple[BadImage, ...]
    pixels: Tensor | None = None
    resized: int = 0


def decode_all(
    paths: Sequence[Path], size: int, on_bad: OnBadImage, on_progress: Progress | None = None
) -> DecodedImages:
    """Decode every image into one tensor, with one thread per core.

    Args:
        paths: N image files.
        size: Side of the square in pixels.
        on_bad: "fail" raises at the first image that cannot be read; "skip" continues without it.
        on_progress: Callback for progress.

    Raises:
        BadImage: If an image cannot be read and `on_bad` is "fail".
    """
    pixels = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    is_resized_N = torch.zeros(len(paths), dtype=torch.bool)

    def decode(index: int) -> None:
        image = decode_image(paths[index])
        is_resized_N[index] = image.shape != pixels.shape[1:]
        pixels[index] = fit_image(image, size)

    readable, bad = _for_each(decode, paths, on_bad, on_progress)
    return DecodedImages(readable, bad, pixels, int(is_resized_N.sum()))


def check_all(paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None = None) -> DecodedImages:
    """Check that every image can be read, with one thread per core.

    Args:
        paths: N image files.
        on_bad: "fail" raises at the first image that cannot be read; "skip" continues without it.
        on_progress: Callback for progress.

    Raises:
        BadImage: If an image cannot be read and `on_bad` is "fail".
    """
    return DecodedImages(*_for_each(lambda index: check_image(paths[index]), paths, on_bad, on_progress))


def _for_each(
    work: Callable[[int], None], paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None
) -> tuple[Tensor, tuple[BadImage, ...]]:
    """Do the work for each index. Return the indices that succeeded and the errors of the others."""

    def attempt(index: int) -> BadImage | None:
        try:
            work(index)
        except BadImage as bad:
            return bad
        return None

    outcomes: list[BadImage | None] = []
    with ThreadPoolExecutor(default_workers()) as pool:
        for start in range(0, len(paths), CHUNK):
            chunk = list(pool.map(attempt, range(start, min(start + CHUNK, len(paths)))))
            bad = [outcome for outcome in chunk if outcome is not None]
            if bad and on_bad == "fail":
                raise bad[0]
            outcomes += chunk
            if on_progress is not None:
                on_progress(len(outcomes), len(paths))
    readable = torch.tensor([index for index, outcome in enumerate(outcomes) if outcome is None], dtype=torch.int64)
    return readable, tuple(outcome for outcome in outcomes if outcome is not None)
