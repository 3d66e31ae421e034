"""The first look at all images: decode them, or only make sure that it can be done later.

Shapes: N = images, S = side of the square that all become.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from longtail.data.decode import SMALL, BadImage, check_image, decode_image, fit_image, image_sides
from longtail.data.stream import default_workers

OnBadImage = Literal["fail", "skip"]
Progress = Callable[[int, int], None]

SAMPLE = 64
LARGE = 224
CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Intake:
    """What the first look gave.

    Args:
        readable: indices of the images that can be read, ascending.
        bad: the others, with their reasons.
        pixels: uint8 (N, 3, S, S), undefined for bad images; None if they were only checked.
        resized: how many images were not S x S.
    """

    readable: Tensor
    bad: tuple[BadImage, ...]
    pixels: Tensor | None = None
    resized: int = 0


def natural_size(paths: Sequence[Path]) -> int:
    """Side of the square that suits the images, judged by the heads of up to 64 of them.

    If all of these are small (at most 64 pixels), the commonest shorter side, the larger one of a tie; otherwise 224.

    Raises:
        BadImage: if none of them can be read.
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


def decode_all(paths: Sequence[Path], size: int, on_bad: OnBadImage, on_progress: Progress | None = None) -> Intake:
    """Decode every image into one tensor, with a thread per core.

    Args:
        paths: N image files.
        size: side of the square in pixels.
        on_bad: "fail" raises at the first image that cannot be read, "skip" goes on without it.
        on_progress: called with the number of images done and N.

    Raises:
        BadImage: if an image cannot be read and `on_bad` is "fail".
    """
    pixels = torch.empty(len(paths), 3, size, size, dtype=torch.uint8)
    is_resized_N = torch.zeros(len(paths), dtype=torch.bool)

    def decode(index: int) -> None:
        image = decode_image(paths[index])
        is_resized_N[index] = image.shape != pixels.shape[1:]
        pixels[index] = fit_image(image, size)

    readable, bad = _each(decode, paths, on_bad, on_progress)
    return Intake(readable, bad, pixels, int(is_resized_N.sum()))


def check_all(paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None = None) -> Intake:
    """Make sure that every image can be read, with a thread per core; arguments and errors as `decode_all`."""
    return Intake(*_each(lambda index: check_image(paths[index]), paths, on_bad, on_progress))


def _each(
    work: Callable[[int], None], paths: Sequence[Path], on_bad: OnBadImage, on_progress: Progress | None
) -> tuple[Tensor, tuple[BadImage, ...]]:
    """Do the work for each index; which ones went well, and what was wrong with the others."""

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
