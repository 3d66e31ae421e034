"""Where the files of a data set lie: below its root, and really there."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from longtail.errors import InputError, first_ten


def relative_paths(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Paths as they are from the root, in one spelling.

    Args:
        root: the folder that the data lie in.
        paths: relative to it, or absolute.

    Raises:
        InputError: if a path is empty or leads out of the root.

    Example:
        >>> relative_paths(Path("photos"), ["./cat//1.png", "dog/2.png"])
        ('cat/1.png', 'dog/2.png')
    """
    homes = (f"{os.path.abspath(root)}/", f"{os.path.realpath(root)}/")
    given = list(paths)
    clean = [_from_home(posixpath.normpath(path), homes) for path in given]
    outside = [old for old, new in zip(given, clean, strict=True) if new.startswith(("/", "../")) or new in ("..", ".")]
    if outside:
        raise _leaves_root(root, outside)
    return tuple(clean)


def _from_home(path: str, homes: tuple[str, str]) -> str:
    if path.startswith("/"):
        for home in homes:
            if path.startswith(home):
                return path.removeprefix(home)
    return path


def check_files(root: Path, paths: Sequence[str]) -> None:
    """Make sure that every file is there and that no symbolic link leads out of the root.

    Reads every folder once instead of asking for every file: half a million images take seconds.

    Args:
        root: the folder that the data lie in.
        paths: as `relative_paths` gives them.

    Raises:
        InputError: naming how many files are missing, or lie outside, and the first ten.
    """
    if not root.is_dir():
        raise InputError(f"no folder at {str(root)!r}, where the images should lie; give another one with --root")
    names_by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        names_by_folder[folder].append(name)
    home = os.path.realpath(root)
    missing: list[str] = []
    outside: list[str] = []
    for folder, names in names_by_folder.items():
        is_link = _files(root / folder)
        leaves = bool(is_link) and not _within(home, os.path.realpath(root / folder))
        for name in names:
            path = f"{folder}/{name}" if folder else name
            if name not in is_link:
                missing.append(path)
            elif leaves or (is_link[name] and not _within(home, os.path.realpath(root / path))):
                outside.append(path)
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(paths):,} image files are missing below {str(root)!r}; put them there or give "
            f"the folder that the paths start from with --root:\n{first_ten(missing)}"
        )
    if outside:
        raise _leaves_root(root, outside)


def _files(folder: Path) -> dict[str, bool]:
    """The files of a folder by name, each with whether it is a symbolic link; empty if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # the latter for a zero byte in the path
        return {}


def _within(home: str, path: str) -> bool:
    return path == home or path.startswith(home.rstrip("/") + "/")


def _leaves_root(root: Path, paths: list[str]) -> InputError:
    return InputError(
        f"{len(paths):,} path{'s lead' if len(paths) > 1 else ' leads'} out of the data root {str(root)!r}; copy the "
        f"files below it, or give a folder that holds them all with --root:\n{first_ten(paths)}"
    )
