"""Write a copy of a data set with smaller images, which every later epoch reads faster.

Classes, splits, order and paths are kept, so that the digest of the split is that of the original data.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from longtail._io import atomic_write, write_json
from longtail._threads import default_workers
from longtail.config.schema import DataConfig
from longtail.data.cache import Format, reduced_file
from longtail.data.decode import BadImage, Decoding
from longtail.data.find import find_listing
from longtail.data.formats.listing import Listing
from longtail.data.formats.prepared import MARKER
from longtail.data.packed import read_bytes
from longtail.data.views import shorter_side
from longtail.errors import InputError, first_ten

CHUNK = 256
Outcome = Literal["reduced", "copied", "kept"]


@dataclass(frozen=True)
class Prepared:
    """Result of `prepare_dataset`.

    Args:
        place: Folder that was written.
        counts: Number of images that were "reduced", "copied" unchanged, or "kept" from an earlier call.
        bad: Errors of the images that were left out.
    """

    place: Path
    counts: Counter[str]
    bad: tuple[BadImage, ...]


def prepare_dataset(
    config: DataConfig,
    size: int,
    target: Path,
    *,
    form: Format = "auto",
    quality: int = 95,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Write every image with a shorter side of size * 256 / 224 pixels, of which the plain view is the center.

    Every file keeps its path, whatever its format becomes. A file that is not larger, or that has gray values of more
    than 8 bits, is copied unchanged. Each file is written atomically, and gets the modification time of its original:
    a second call keeps the files that are up to date.

    Args:
        config: Data set of image files.
        size: Side of the square that the model sees, in pixels.
        target: Folder that does not exist, is empty, or was written with the same settings.
        form: Format of the reduced images. "auto" writes JPEG for JPEG files and lossless PNG for all others; "webp" is
            lossless.
        quality: Quality of JPEG files, 1 to 100.
        on_progress: Callback with the number of images done and the number of all images.

    Raises:
        InputError: If the data cannot be read, an image cannot be read and `config.on_bad_image` is "fail", or the
            target holds other files or is inside of the data.
    """
    if size < 1 or not 1 <= quality <= 100:
        raise InputError(f"`size` must be >= 1 and `quality` 1 to 100, got size={size} and quality={quality}")
    listing = find_listing(config)
    settings = {"data": str(listing.root.resolve()), "size": size, "format": form, "quality": quality}
    _claim(target, listing, settings)
    how = Decoding(None, config.max_pixels)
    names = [name for part in listing.parts.values() for name in part.paths]

    def attempt(name: str) -> Outcome | BadImage:
        try:
            return _prepare(listing.root / name, target / name, shorter_side(size), form, quality, how)
        except BadImage as bad:
            return bad

    outcomes: list[Outcome | BadImage] = []
    with ThreadPoolExecutor(default_workers()) as pool:
        for start in range(0, len(names), CHUNK):
            outcomes += pool.map(attempt, names[start : start + CHUNK])
            if on_progress is not None:
                on_progress(len(outcomes), len(names))
    bad = {name: each for name, each in zip(names, outcomes, strict=True) if isinstance(each, BadImage)}
    if bad and config.on_bad_image == "fail":
        raise InputError(
            f"{len(bad):,} of {len(names):,} images cannot be read; repair or remove them, or set `on_bad_image` to "
            f'"skip" to leave them out:\n{first_ten(f"{each.path}: {each.reason}" for each in bad.values())}'
        )
    write_json(target / MARKER, {**settings, **_content(listing, set(bad))})
    return Prepared(target, Counter(each for each in outcomes if isinstance(each, str)), tuple(bad.values()))


def _claim(target: Path, listing: Listing, settings: dict[str, Any]) -> None:
    """Check that the target is new, or was begun with the same settings."""
    if target.resolve().is_relative_to(listing.root.resolve()):
        raise InputError(f"{target} is inside of the data in {listing.root}; give a folder elsewhere")
    marker = target / MARKER
    if marker.is_file():
        earlier = json.loads(marker.read_text(encoding="utf-8"))
        changed = [f"{key}={earlier.get(key)!r}" for key, value in settings.items() if earlier.get(key) != value]
        if changed:
            raise InputError(f"{target} was prepared with {', '.join(changed)}; use the same, or give another folder")
        return
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists and is not an empty folder; delete it or give another folder")
    target.mkdir(parents=True, exist_ok=True)
    write_json(marker, settings)


def _prepare(source: Path, target: Path, shorter: int, form: Format, quality: int, how: Decoding) -> Outcome:
    modified = source.stat().st_mtime_ns if source.is_file() else 0  # an image inside of a table has no time
    if target.is_file() and target.stat().st_mtime_ns == modified:
        return "kept"
    reduced = reduced_file(source, shorter, how, form, quality)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        file.write(read_bytes(source) if reduced is None else reduced)
    os.utime(target, ns=(modified, modified))
    return "copied" if reduced is None else "reduced"


def _content(listing: Listing, left_out: set[str]) -> dict[str, Any]:
    """Return the part of the marker that the reader of the folder needs."""
    parts = {
        name: [
            [path, label] for path, label in zip(part.paths, part.targets.tolist(), strict=True) if path not in left_out
        ]
        for name, part in listing.parts.items()
    }
    return {"source": listing.source, "class_names": list(listing.class_names), "parts": parts}
