"""Folders that `prepare_dataset` has written."""

import json
from pathlib import Path

from longtail.data.formats.listing import Listing, make_listing
from longtail.data.scan import EVERYTHING, Selection
from longtail.errors import InputError

MARKER = "prepared.json"
"""File of a prepared folder with its settings, classes and splits."""


def read_prepared(path: Path | str, selection: Selection = EVERYTHING) -> Listing:
    """List the images of a prepared folder, with the classes, splits and order of the original data.

    Args:
        path: Folder that holds `prepared.json`.
        selection: Choice of files.

    Raises:
        InputError: If the folder is not complete.
    """
    root = Path(path).expanduser()
    saved = json.loads((root / MARKER).read_text(encoding="utf-8"))
    if "parts" not in saved:
        raise InputError(f"{str(path)!r} was not prepared to the end; run the command that writes it again")
    chosen = {
        name: [(image, label) for image, label in pairs if selection.takes(image)]
        for name, pairs in saved["parts"].items()
    }
    parts = {name: ([image for image, _ in pairs], [label for _, label in pairs]) for name, pairs in chosen.items()}
    return make_listing(str(path), root, saved["source"], saved["class_names"], parts, selection=selection)
