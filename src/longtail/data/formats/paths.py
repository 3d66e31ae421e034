"""Paths of the image files of a data set: one spelling, inside the root, and present on disk."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from longtail._tables import normalized
from longtail.data.scan import is_within
from longtail.errors import InputError, first_ten


def relative_paths(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Normalize paths to one spelling, relative to the root and with "/" between folders.

    Args:
        root: Folder of the data.
        paths: Paths relative to the root, or absolute paths. Backslashes may separate folders.

    Raises:
        InputError: If a path is empty or leads out of the root.

    Example:
        >>> relative_paths(Path("photos"), ["./cat//1.png", "dog/2.png"])
        ('cat/1.png', 'dog/2.png')
    """
    homes = [f"{_with_slashes(absolute)}/" for absolute in (os.path.abspath(root), os.path.realpath(root))]
    given = list(paths)
    if os.sep == "/":  # a table that was written on Windows
        given = [path.replace("\\", "/") if "\\" in path and not (root / path).exists() else path for path in given]
    clean = [_strip_home(posixpath.normpath(_with_slashes(path)), homes) for path in given]
    outside = [
        old
        for old, new in zip(given, clean, strict=True)
        if new.startswith(("/", "../")) or new in ("..", ".") or os.path.splitdrive(new)[0]
    ]
    if outside:
        raise leaves_root(root, outside)
    return tuple(clean)


def _with_slashes(path: str) -> str:
    return path if os.sep == "/" else path.replace(os.sep, "/")


def _strip_home(path: str, homes: Sequence[str]) -> str:
    for home in homes:
        if os.path.normcase(path).startswith(os.path.normcase(home)):
            return path[len(home) :]
    return path


def locate_files(root: Path, paths: Sequence[str], follow_links: bool = False) -> tuple[str, ...]:
    """Check that every file exists and that no symbolic link leads out of the root.

    Each folder is read once, which takes seconds for half a million images; a check per file would take minutes.

    Args:
        root: Folder of the data.
        paths: Paths as returned by `relative_paths`.
        follow_links: Follow symbolic links that lead out of the root.

    Returns:
        The paths as the files are spelled on disk, which may be in another Unicode form.

    Raises:
        InputError: If files are missing or outside the root. The message has their number and the first ten.
    """
    if not root.is_dir():
        raise InputError(f"no folder at {str(root)!r}, where the images should be; set `root` to the right folder")
    names_by_folder: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        folder, _, name = path.rpartition("/")
        names_by_folder[folder].append(name)
    home = os.path.realpath(root)
    missing: list[str] = []
    outside: list[str] = []
    spelled: dict[str, str] = {}
    for folder, names in names_by_folder.items():
        place = _spelled(root, folder)
        is_link = _links_by_file(root / place)
        leaves = bool(is_link) and not is_within(home, os.path.realpath(root / place))
        twins: dict[str, str] | None = None
        for given in names:
            path, name = (f"{folder}/{given}" if folder else given), given
            if name not in is_link:
                twins = {normalized(entry): entry for entry in is_link} if twins is None else twins
                name = twins.get(normalized(given), given)
            if name not in is_link:
                missing.append(path)
            elif leaves or (is_link[name] and not is_within(home, os.path.realpath(root / place / name))):
                outside.append(path)
            if (place, name) != (folder, given):
                spelled[path] = f"{place}/{name}" if place else name
    if missing:
        raise InputError(
            f"{len(missing):,} of {len(paths):,} image files are missing in {str(root)!r}; add them, or set `root` to "
            f"the folder to which the paths are relative:\n{first_ten(missing)}"
        )
    if outside and not follow_links:
        raise leaves_root(root, outside)
    return tuple(spelled.get(path, path) for path in paths) if spelled else tuple(paths)


def on_disk(path: Path) -> Path:
    """Return a path as it is spelled on disk if only its Unicode form differs.

    Args:
        path: Path of a file or folder.
    """
    if path.exists() or str(path).isascii():
        return path
    absolute = path.absolute()
    root = Path(absolute.anchor)
    spelled = root / _spelled(root, absolute.relative_to(root).as_posix())
    return spelled if spelled.exists() else path


def _spelled(root: Path, folder: str) -> str:
    """Return a folder as it is spelled on disk if only its Unicode form differs."""
    if not folder or folder.isascii() or (root / folder).is_dir():
        return folder
    place = ""
    for part in folder.split("/"):
        here = root / place
        names = os.listdir(here) if here.is_dir() else []
        actual = part if part in names else next((name for name in names if normalized(name) == normalized(part)), part)
        place = f"{place}/{actual}" if place else actual
    return place


def _links_by_file(folder: Path) -> dict[str, bool]:
    """Return whether each file of a folder is a symbolic link, by name. Empty if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.is_symlink() for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return {}


def leaves_root(root: Path, paths: Sequence[str], *, is_folder: bool = False) -> InputError:
    """Return the error for paths that lead out of the root.

    Args:
        root: Folder of the data.
        paths: The paths.
        is_folder: Whether the data are a folder, which has no other root.
    """
    remedy = "" if is_folder else ", or set `root` to a folder that holds them all"
    return InputError(
        f"{len(paths):,} path{'s lead' if len(paths) > 1 else ' leads'} out of the data root {str(root)!r}; set "
        f"`follow_links` to follow symbolic links, copy the files into it{remedy}:\n{first_ten(paths)}"
    )
