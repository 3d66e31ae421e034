"""Reduced copies of large images, written while they are first read and used from then on.

A copy is the file that `prepare_dataset` would write: its shorter side is size * 256 / 224 pixels. The pixels of a view
depend on the setting and on the images, never on what the folder holds: without a copy, one is made in memory.

A copy is named by the path, modification time and size of its original and by its own size, so that a changed image
gets a new copy. The copies of a data set share a folder. If the next data set does not fit, the folders that were used
least recently are removed.
"""

import contextlib
import errno
import hashlib
import io
import logging
import multiprocessing
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from torch import Tensor

from longtail._io import replace_file
from longtail.data.decode import JPEG_FORMATS, BadImage, Decoding, read_reduced, read_view
from longtail.data.files import sample, sampled_shapes
from longtail.data.packed import is_packed
from longtail.data.views import shorter_side
from longtail.errors import InputError

Format = Literal["auto", "jpeg", "png", "webp"]

LARGER = 2
"""Images are copied if the shorter side of most of them exceeds this multiple of that of a copy."""
LARGEST = 50 * 10**9
"""Largest number of bytes of all copies in a folder."""
TRIED = 8
"""Images that are copied first, to estimate the size of all copies."""
LOCK_SECONDS = 60
USED = "used"
"""File in the folder of a data set, whose modification time is that of the last use."""
NOT_LARGER = b"the image itself is not larger"
"""Content of a copy that stands for the image itself."""

logger = logging.getLogger("longtail")


def reduced_file(source: Path, shorter: int, how: Decoding, form: Format = "auto", quality: int = 95) -> bytes | None:
    """Return the bytes of an image file with a smaller image.

    Args:
        source: Path of the image.
        shorter: Shorter side of the smaller image in pixels.
        how: Settings to decode with.
        form: Format of the result. "auto" is JPEG for JPEG files and lossless PNG for all others; "webp" is lossless.
        quality: Quality of JPEG files, 1 to 100.

    Returns:
        None if the image is not larger, or holds gray values of more than 8 bits.

    Raises:
        BadImage: If the image cannot be read.
    """
    reduced = read_reduced(source, shorter, how)
    if reduced is None:
        return None
    is_jpeg = form == "jpeg" or (form == "auto" and reduced.format in JPEG_FORMATS)
    options: dict[str, Any] = {"quality": quality} if is_jpeg else {"lossless": True}
    content = io.BytesIO()
    reduced.save(content, "JPEG" if is_jpeg else "WEBP" if form == "webp" else "PNG", **options)
    return content.getvalue()


def image_cache(setting: str, paths: Sequence[Path], size: int, how: Decoding) -> "ImageCache | None":
    """Return the copies for a data set, or None if it needs none. Nothing is written before the first batch.

    Args:
        setting: "auto" for the usual folder, "off", or a folder.
        paths: N image files.
        size: Side of the views in pixels.
        how: Settings to decode with.

    Raises:
        InputError: If a folder was given that is inside of the data.
    """
    if setting == "off" or not paths:
        return None
    chosen = [paths[index] for index in sample(len(paths))]
    sides = [min(shape) for shape in sampled_shapes(paths, how)[0]]
    if not sides or statistics.median_low(sides) <= LARGER * shorter_side(size):
        return None
    data = Path(os.path.commonpath([os.path.abspath(path.parent) for path in (chosen[0], chosen[-1])]))
    folder = usual_folder() if setting == "auto" else Path(os.path.abspath(Path(setting).expanduser()))
    if setting != "auto" and data != Path(data.anchor) and folder.is_relative_to(data):  # would be read as a class
        raise InputError(f"the cache {folder} is inside of the data in {data}; give a folder elsewhere")
    return ImageCache(folder, data, chosen, len(paths), shorter_side(size), how)


def usual_folder() -> Path:
    """Return the folder of the copies: `$LONGTAIL_CACHE/images`, by default `~/.cache/longtail/images`."""
    return Path(os.environ.get("LONGTAIL_CACHE") or "~/.cache/longtail").expanduser().absolute() / "images"


class ImageCache:
    """Reduced copies of the images of a data set, which several processes may read and write.

    Args:
        folder: Folder of the copies of all data sets.
        data: Folder of the images.
        chosen: Some of the images, of which a few are copied to estimate the size.
        count: Number of all images.
        shorter: Shorter side of a copy in pixels.
        how: Settings to decode with.
    """

    def __init__(
        self, folder: Path, data: Path, chosen: Sequence[Path], count: int, shorter: int, how: Decoding
    ) -> None:
        self.folder, self.count, self.shorter = folder, count, shorter
        self.home = folder / _key(f"{data}\0{shorter}")
        self._tried = [chosen[index * len(chosen) // TRIED] for index in range(min(TRIED, len(chosen)))]
        self._how = how
        self._is_open = self._was_told = False
        self._floor = 0
        self._stopped = multiprocessing.Event()

    def begin(self) -> None:
        """Make room for the copies and log where they are. If that fails, warn and store none."""
        if self._is_open:
            return
        self._is_open = True
        try:
            expected = self._expected()
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock", timeout=LOCK_SECONDS):
                stored, limit = self._make_room(expected)
        except OSError as error:
            self._stopped.set()
            self._was_told = True
            logger.warning(
                "Reduced copies of the images are not stored in %s: %s. Every epoch reads the images themselves; free "
                "some space or set `cache` to another folder.",
                self.folder,
                error.strerror or error,
            )
            return
        logger.info(
            "The images are more than %d times as large as needed. Copies with a shorter side of %d pixels are kept in "
            "%s from the first epoch on: about %s for %s images, of which %s are stored. All copies there take at "
            "most %s.",
            LARGER, self.shorter, self.folder, _bytes(expected), f"{self.count:,}", _bytes(stored), _bytes(limit),
        )  # fmt: skip

    def read_view(self, path: Path, size: int, how: Decoding, uniforms_R: Sequence[float] | None = None) -> Tensor:
        """Return the view of an image as `longtail.data.decode.read_view` does, from its reduced copy.

        Args:
            path: Path of the image.
            size: Side of the view in pixels.
            how: Settings to decode with.
            uniforms_R: Numbers that choose the random crop. None gives the plain view.

        Raises:
            BadImage: If the image cannot be read.
        """
        place = self._place(path)
        with contextlib.suppress(OSError, BadImage):  # there is no copy, or it is damaged
            return read_view(path, size, how, uniforms_R, _unless_not_larger(place.read_bytes()))
        copy = reduced_file(path, self.shorter, how)
        self._store(place, NOT_LARGER if copy is None else copy)
        return read_view(path, size, how, uniforms_R, copy)

    def warn_if_stopped(self) -> None:
        """Warn once if a process could not store a copy. It has then stored no others."""
        if self._stopped.is_set() and not self._was_told:
            self._was_told = True
            logger.warning(
                "No more reduced copies of the images are stored in %s, because it cannot be written or less than half "
                "of the space is free. The other images are read themselves in every epoch.",
                self.folder,
            )

    def _place(self, path: Path) -> Path:
        """Return the path of the copy of an image. An image that does not exist has none."""
        try:
            state = os.stat(path.parent.parent if is_packed(path) else path)
        except OSError as error:
            raise BadImage(path, error.strerror or str(error)) from error
        key = _key(f"{os.path.abspath(path)}\0{state.st_mtime_ns}\0{state.st_size}\0{self.shorter}")
        return self.home / key[:2] / key[2:]

    def _store(self, place: Path, content: bytes) -> None:
        if self._stopped.is_set():
            return
        try:
            if shutil.disk_usage(self.folder).free - len(content) < self._floor:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            place.parent.mkdir(parents=True, exist_ok=True)
            replace_file(place, content)
        except OSError:
            self._stopped.set()

    def _expected(self) -> int:
        """Estimate the bytes of all copies from a few of them."""
        sizes = []
        for path in self._tried:
            with contextlib.suppress(BadImage):  # reported when the image is needed
                sizes.append(len(reduced_file(path, self.shorter, self._how) or NOT_LARGER))
        return round(statistics.mean(sizes) * self.count) if sizes else 0

    def _make_room(self, expected: int) -> tuple[int, int]:
        """Remove the data sets used least recently until the copies fit; return the stored bytes and the limit.

        Raises:
            OSError: If the copies do not fit even then.
        """
        sets = [each for each in self.folder.iterdir() if (each / USED).is_file()]
        used = {each: _bytes_in(each) for each in sets}
        free = shutil.disk_usage(self.folder).free + sum(used.values())
        limit = min(LARGEST, free // 2)
        if expected > limit:
            raise OSError(errno.ENOSPC, f"they need {_bytes(expected)}, and at most {_bytes(limit)} may be used")
        oldest_first = sorted(sets, key=lambda each: (each == self.home, (each / USED).stat().st_mtime_ns))
        for each in oldest_first:
            if sum(used.values()) + max(0, expected - used.get(self.home, 0)) <= limit:
                break
            shutil.rmtree(each, ignore_errors=True)
            del used[each]
        self.home.mkdir(exist_ok=True)
        (self.home / USED).touch()
        self._floor = free // 2
        return used.get(self.home, 0), limit


def _unless_not_larger(content: bytes) -> bytes | None:
    return None if content == NOT_LARGER else content


def _key(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def _bytes_in(folder: Path) -> int:
    return sum((Path(parent) / name).stat().st_size for parent, _, names in os.walk(folder) for name in names)


def _bytes(count: int) -> str:
    """Format a number of bytes."""
    return f"{count / 1e9:,.1f} GB" if count >= 10**9 else f"{count / 1e6:,.1f} MB"
