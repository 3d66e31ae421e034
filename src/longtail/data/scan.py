"""Find the image files of a folder: one rule for training, prediction, inspection and export.

An image has the suffix of a supported format, or no suffix and the first bytes of one. Hidden files and folders, and
those that desktop and storage systems write, are passed over. Symbolic links are followed within the root. What is
passed over is counted.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property
from pathlib import Path

from longtail.data.dataset import Omission
from longtail.data.decode import FORMATS, HEIF_SUFFIXES, IMAGE_SUFFIXES
from longtail.errors import InputError

SYSTEM_NAMES = frozenset(
    (
        "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler",
        "system volume information", "lost+found", "__macosx", "__pycache__", "network trash folder",
        "temporary items",
        "@synoeastream", "@__thumb", "@sharebin", "~snapshot", "recycled", "recycle bin",
        "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
    )
)  # fmt: skip
"""Names of files and folders that systems write next to images, in lower case."""
RECOVERED = re.compile(r"found\.[0-9]{3}", re.IGNORECASE)
"""Folders of recovered clusters that Windows writes."""
SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*",
    b"P1\n", b"P2\n", b"P3\n", b"P4\n", b"P5\n", b"P6\n",
)  # fmt: skip
"""First bytes of image files."""
MASK = re.compile(r"(.+)[_-](mask|masks|seg|segmentation|gt|label|annotation)", re.IGNORECASE)


@dataclass(frozen=True)
class Selection:
    """Choice of files in a folder.

    Args:
        include: Patterns of the files to take. Empty takes all.
        exclude: Patterns of the files and folders to leave out.
        follow_links: Follow symbolic links that lead out of the root.
        splits: Splits to read in addition to the training one, if the data have them.
        allow_empty: Accept classes without a training image.

    Example:
        >>> Selection(exclude=("*_mask.png", "masks")).takes("cat/masks/1.png")
        False
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    splits: tuple[str, ...] = ("val", "test")
    allow_empty: bool = False

    def takes(self, path: str) -> bool:
        """Return whether a file is chosen.

        Args:
            path: Path relative to the root, with "/" between folders. A pattern applies to the whole path, its last
                parts, or a folder in it.
        """
        if self._excluded is not None and self._excluded.match(path):
            return False
        return self._included is None or self._included.match(path) is not None

    @cached_property
    def _included(self) -> re.Pattern[str] | None:
        return _pattern(self.include)

    @cached_property
    def _excluded(self) -> re.Pattern[str] | None:
        return _pattern(self.exclude)


EVERYTHING = Selection()


def _pattern(patterns: Sequence[str]) -> re.Pattern[str] | None:
    forms = [form for each in patterns for form in (each, f"*/{each}", f"{each}/*", f"*/{each}/*")]
    return re.compile("|".join(map(translate, forms))) if forms else None


@dataclass
class PassedOver:
    """Files and folders that a search did not take.

    Args:
        hidden: Hidden and system folders.
        hidden_images: Hidden image files.
        others: Number of other files, by suffix.
        excluded: Number of images that the selection leaves out.
        outside: Symbolic links that lead out of the root.
        masks: Images with the name of another image next to them.
    """

    hidden: list[str] = field(default_factory=list)
    hidden_images: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    excluded: int = 0
    outside: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """Return sentences for the reader of a result. Empty if all files were taken."""
        notes = []
        if self.hidden:
            notes.append(f"Hidden and system folders were left out: {_named(self.hidden)}.")
        if self.hidden_images:
            notes.append(f"{len(self.hidden_images):,} hidden image files were left out: {_named(self.hidden_images)}.")
        if self.others:
            total = self.others.total()
            kinds = ", ".join(f"{suffix} {count:,}" for suffix, count in self.others.most_common(10))
            more = ", ..." if len(self.others) > 10 else ""
            advice = " Install the extra `heif` to read HEIF images." if self._needs_heif() else ""
            plural = "s that are" if total > 1 else " that is"
            notes.append(
                f"{total:,} file{plural} not in a supported image format (such as {', '.join(FORMATS[:4])}) "
                f"{'were' if total > 1 else 'was'} left out: {kinds}{more}.{advice}"
            )
        if self.excluded:
            notes.append(f"{self.excluded:,} images were left out by `include` and `exclude`.")
        if self.outside:
            notes.append(
                f"Symbolic links that lead out of the folder were left out; set `follow_links` to follow them: "
                f"{_named(self.outside)}."
            )
        if self.masks:
            notes.append(
                f"{len(self.masks):,} images have the name of another image next to them; if they are masks or copies, "
                f"leave them out with `exclude`: {_named(self.masks)}."
            )
        return notes

    def omissions(self) -> list[Omission]:
        """Return what was left out, by reason."""
        named = {
            "hidden or system folder": self.hidden,
            "hidden file": self.hidden_images,
            "symbolic link that leads out of the folder": self.outside,
        }
        found = [Omission(reason, len(paths), tuple(paths)) for reason, paths in named.items() if paths]
        for suffix, count in self.others.most_common():
            found.append(Omission(f"not in a supported image format: {suffix}", count))
        return [*found, *([Omission("`include` and `exclude`", self.excluded)] if self.excluded else [])]

    def _needs_heif(self) -> bool:
        return "HEIF" not in FORMATS and any(suffix in HEIF_SUFFIXES for suffix in self.others)


def _named(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f", ... ({len(items):,} in all)" if len(items) > 5 else "")


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or written by a system.

    Args:
        name: Last part of a path.

    Example:
        >>> is_hidden(".thumbnails"), is_hidden("@eaDir"), is_hidden("cat")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES or RECOVERED.fullmatch(name) is not None


def is_image(path: str) -> bool:
    """Return whether a file is an image by its suffix, or by its first bytes if it has no suffix.

    Args:
        path: Path of the file.

    Example:
        >>> is_image("cat/1.JPG"), is_image("cat/notes.txt")
        (True, False)
    """
    suffix = _suffix(path)
    if suffix:
        return suffix in IMAGE_SUFFIXES
    try:
        with open(path, "rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start.startswith(SIGNATURES) or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not hidden.

    Args:
        folder: The folder.

    Raises:
        InputError: If it cannot be read.
    """
    return [entry for entry in _entries(folder) if not is_hidden(entry.name)]


def folder_names(folder: Path) -> list[str]:
    """Return the sorted names of the visible folders in a folder.

    Args:
        folder: The folder.

    Raises:
        InputError: If it cannot be read.
    """
    return sorted(entry.name for entry in visible(folder) if entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"cannot read the folder {str(folder)!r}: {error.strerror}") from error


def visible_noting_hidden(root: Path, folder: str, passed: PassedOver) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are not hidden, and record its hidden folders.

    Args:
        root: Folder of the data.
        folder: Path relative to the root; empty for the root itself.
        passed: Record of what is passed over.

    Raises:
        InputError: If the folder cannot be read.
    """
    entries = _entries(root / folder)
    prefix = f"{folder}/" if folder else ""
    hidden = sorted((entry.name, entry.is_dir()) for entry in entries if is_hidden(entry.name))
    passed.hidden += [f"{prefix}{name}" for name, is_folder in hidden if is_folder]
    # files "._*" are resource forks of macOS, which only have the suffix of an image
    files = (name for name, is_folder in hidden if not is_folder and not name.startswith("._"))
    passed.hidden_images += [f"{prefix}{name}" for name in files if _suffix(name) in IMAGE_SUFFIXES]
    return [entry for entry in entries if not is_hidden(entry.name)]


def walk(
    root: Path, folder: str, selection: Selection, passed: PassedOver, linked: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Yield the images of a folder and its subfolders.

    Args:
        root: Folder of the data.
        folder: Path relative to the root; empty for the root itself.
        selection: Choice of files.
        passed: Record of what is passed over.
        linked: Folders that the search entered through symbolic links.

    Yields:
        Paths relative to the root, with "/" between folders.

    Raises:
        InputError: If a folder cannot be read, or a symbolic link leads to a folder that contains it.
    """
    if folder and os.path.islink(root / folder):
        target = os.path.realpath(root / folder)
        if target in linked or is_within(target, os.path.realpath((root / folder).parent)):
            raise InputError(
                f"{folder!r} in {str(root)!r} is a symbolic link to a folder that contains it; remove the link"
            )
        linked |= {target}
        if _leaves(root, folder, selection):
            passed.outside.append(folder)
            return
    stems: dict[str, str] = {}
    for entry in sorted(visible_noting_hidden(root, folder, passed), key=lambda entry: entry.name):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir():
            yield from walk(root, path, selection, passed, linked)
        elif _is_special(entry):
            passed.others["pipe or device"] += 1
        elif not is_image(entry.path):
            passed.others[_suffix(entry.name) or "no suffix"] += 1
        elif not selection.takes(path):
            passed.excluded += 1
        elif entry.is_symlink() and _leaves(root, path, selection):
            passed.outside.append(path)
        else:
            stem = os.path.splitext(entry.name)[0]
            stems.setdefault(stem, path)
            marked = MASK.fullmatch(stem)
            if stems[stem] != path or (marked is not None and marked[1] in stems):
                passed.masks.append(path)
            yield path


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a pipe, socket or device, or a link to one. Opening it could wait for ever."""
    try:
        return not (entry.is_file() or entry.is_dir()) and os.path.exists(entry.path)
    except OSError:
        return False


def _leaves(root: Path, path: str, selection: Selection) -> bool:
    return not selection.follow_links and not is_within(os.path.realpath(root), os.path.realpath(root / path))


def is_within(home: str, path: str) -> bool:
    """Return whether a path is a folder or below it.

    Args:
        home: Resolved path of the folder.
        path: Resolved path.

    Example:
        >>> is_within("/a/b", "/a/b/c"), is_within("/a/b", "/a/bc")
        (True, False)
    """
    return path == home or path.startswith(home.rstrip(os.sep) + os.sep)
