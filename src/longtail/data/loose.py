"""Images without labels, for `longtail predict`: files and folders as a user names them."""

from collections.abc import Sequence
from pathlib import Path

from longtail.data.decode import IMAGE_SUFFIXES, BadImage, check_image
from longtail.errors import InputError, first_ten


def find_images(places: Sequence[Path]) -> list[Path]:
    """Image files, and those in folders (at any depth, sorted), in the order given.

    Raises:
        InputError: for a place that does not exist, or if there is no image at all.

    Example:
        >>> find_images([Path("nowhere.png")])
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: 1 of the places do not exist:
          nowhere.png
    """
    missing = [place for place in places if not place.exists()]
    if missing:
        raise InputError(f"{len(missing)} of the places do not exist:\n{first_ten(missing)}")
    found = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    images = [path for path in found if path in places or _looks_like_image(path)]
    if not images:
        raise InputError(
            f"no image in {', '.join(map(str, places))}; known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return images


def bad_images(paths: Sequence[Path]) -> dict[Path, str]:
    """Which of the files can not be read, and why.

    Example:
        >>> bad_images([Path("nowhere.png")])
        {PosixPath('nowhere.png'): 'No such file or directory'}
    """
    bad = {}
    for path in paths:
        try:
            check_image(path)
        except BadImage as error:
            bad[path] = error.reason
    return bad


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
