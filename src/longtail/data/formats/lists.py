"""Text lists of long-tailed benchmarks, with a line `path label` per image.

The lists of ImageNet-LT and Places-LT are those of OLTR (Liu et al., CVPR 2019,
https://github.com/zhmiao/OpenLongTailRecognition-OLTR). Those of iNaturalist 2018 are from the classifier-balancing
code (Kang et al., ICLR 2020).
"""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from longtail._tables import is_whole_number, read_text, whole_number
from longtail.data.files import data_root
from longtail.data.formats.listing import Listing, label_notes, make_listing, split_files, unused_test_file_notes
from longtail.data.scan import EVERYTHING, Selection
from longtail.errors import InputError, first_ten


@dataclass(frozen=True)
class Benchmark:
    """Published lists and the images that they refer to.

    Args:
        lists: Folder of the lists.
        images: Folder of the images.
        train: Path of a training image in the lists, for messages.
        source: Where to get the lists and the images.
    """

    lists: str
    images: str
    train: str
    source: str


_SEPARATED = re.compile(r"(.+?)\s*[,;]\s*([0-9]+(?:[.,]0*)?)")
_FRACTION = re.compile(r"-?[0-9]+[.,][0-9]+")
_OLTR = "the lists from https://github.com/zhmiao/OpenLongTailRecognition-OLTR"
BENCHMARKS = {
    "imagenet-lt": Benchmark(
        "ImageNet_LT",
        "imagenet",
        "train/n01440764/n01440764_190.JPEG",
        f"{_OLTR}, the images (ILSVRC 2012) from https://image-net.org/download.php",
    ),
    "places-lt": Benchmark(
        "Places_LT",
        "places365",
        "train/airfield/00004851.jpg",
        f"{_OLTR}, the images (Places365-Standard, small) from http://places2.csail.mit.edu/download.html",
    ),
    "inat18": Benchmark(
        "iNaturalist18",
        "inat18",
        "train_val2018/Plantae/7291/9f8ecb39e5f767e39e9b28e34488f179.jpg",
        "the lists from https://github.com/facebookresearch/classifier-balancing, the images from "
        "https://github.com/visipedia/inat_comp/tree/master/2018",
    ),
}
INAT_NOTE = (
    "iNaturalist 2018 has no labeled test split: as in the papers, its validation split is used as the test split."
)


def read_lists(name_or_path: Path | str, root: Path | str | None = None, selection: Selection = EVERYTHING) -> Listing:
    """List the images of `path label` text lists.

    The folder of the lists may hold `classnames.txt` (a line per class with its identifier and its name) or
    `categories.json` (a list of mappings with "id" and "name"). Otherwise, the labels are the class names.

    Args:
        name_or_path: "imagenet-lt", "places-lt" or "inat18"; a folder that holds one `..._train.txt`; or a list. The
            lists `..._val.txt` and `..._test.txt` in the same folder are read too.
        root: For a path, the folder to which the paths in the lists are relative (default: that of the lists). For a
            name, the folder of all data sets, see `data_root`.
        selection: Choice of files.

    Raises:
        InputError: If lists or images are missing, a line cannot be read, or a check of `make_listing` fails.

    Example:
        >>> read_lists("places-lt", "nowhere")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no lists of places-lt in any of:
          nowhere/lists/Places_LT
          nowhere/Places_LT
        get the lists from ...
    """
    if str(name_or_path) in BENCHMARKS:
        return _read_benchmark(str(name_or_path), data_root(str(root) if root is not None else None), selection)
    path = Path(name_or_path).expanduser()
    train = _train_list(path)
    home = Path(root).expanduser() if root is not None else train.parent
    return _read(str(name_or_path), train, home, selection)


def _read_benchmark(name: str, root: Path, selection: Selection) -> Listing:
    known = BENCHMARKS[name]
    folders = [root / "lists" / known.lists, root / known.lists]
    lists = next((folder for folder in folders if (folder / f"{known.lists}_train.txt").is_file()), None)
    if lists is None:
        raise InputError(f"no lists of {name} in any of:\n{first_ten(folders)}\nget {known.source}")
    train = lists / f"{known.lists}_train.txt"
    paths, _ = parse_list(train)
    example = paths[0] if paths else known.train
    homes = [root / known.images, root]
    images = next((home for home in homes if (home / example).is_file()), None)
    if images is None:
        tried = first_ten(home / example for home in homes)
        raise InputError(f"no images of {name}: the first one is at none of:\n{tried}\nget {known.source}")
    return _read(name, train, images, selection)


def _train_list(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"no list at {str(path)!r}; give a text file of `path label` lines, or a folder of such files")
    lists = sorted(path.glob("*_train.txt"))
    if len(lists) != 1:
        found = f"{len(lists)}:\n{first_ten(lists)}\ngive one of them" if lists else "none"
        raise InputError(f"the folder {str(path)!r} must hold one list *_train.txt, but has {found}")
    return lists[0]


def _read(name: str, train: Path, root: Path, selection: Selection) -> Listing:
    parts = {"train": _selected(train, selection)}
    notes = []
    is_published = train.name.endswith("_train.txt")
    for part, file in split_files(train, selection.splits).items():
        try:
            parts[part] = _selected(file, selection)
        except InputError as error:
            if is_published:
                raise
            notes.append(f"{file.name} next to {train.name} is not used as the {part} split: {error}.")
        else:
            if not is_published:
                notes.append(f"{file.name} next to {train.name} is used as the {part} split.")
    if "test" in selection.splits and "test" not in parts and not is_published:
        notes += unused_test_file_notes(train)
    if train.name == "iNaturalist18_train.txt" and "test" not in parts and "val" in parts:
        parts["test"] = parts.pop("val")
        notes.append(INAT_NOTE)
    class_names = _class_names(train.parent)
    if class_names is None:
        class_names, parts = _numbers(name, parts)
        notes += label_notes(class_names)
    return make_listing(name, root, "list", class_names, parts, notes, selection=selection)


def _selected(path: Path, selection: Selection) -> tuple[list[str], list[int]]:
    pairs = [pair for pair in zip(*parse_list(path), strict=True) if selection.takes(pair[0])]
    return [image for image, _ in pairs], [label for _, label in pairs]


def parse_list(path: Path) -> tuple[list[str], list[int]]:
    """Read the paths and labels of a list, in its order.

    Args:
        path: Text file with a line `path label` per image.

    Raises:
        InputError: If the file cannot be read, or a line has no path or no integer label.
    """
    lines = read_text(path).split("\n")
    pairs = [_pair(line) for line in lines if line and not line.isspace()]
    try:
        return [image for image, _ in pairs], [whole_number(label) for _, label in pairs]
    except ValueError as error:
        number, line = next((k, line) for k, line in enumerate(lines, 1) if not _is_valid(line))
        raise InputError(
            f"line {number:,} of {str(path)!r} must be a path and an integer label, got {line.strip()!r}"
        ) from error


def _pair(line: str) -> list[str]:
    """Return path and label of a line, which spaces separate, or a comma or a semicolon as in a table."""
    pair = line.strip().rsplit(None, 1)
    if len(pair) < 2 or not (is_whole_number(pair[1]) or _FRACTION.fullmatch(pair[1])):
        separated = _SEPARATED.fullmatch(line.strip())
        pair = list(separated.groups()) if separated else pair
    if pair and len(pair[0]) > 2 and pair[0][0] == pair[0][-1] == '"':
        pair[0] = pair[0][1:-1]
    return pair


def _is_valid(line: str) -> bool:
    pair = _pair(line)
    try:
        return not line.strip() or (len(pair) == 2 and whole_number(pair[1]) is not None)
    except ValueError:
        return False


def _numbers(
    name: str, parts: dict[str, tuple[list[str], list[int]]]
) -> tuple[list[str], dict[str, tuple[list[str], list[int]]]]:
    """Return the distinct labels as class names, and the parts with the positions of the labels among them."""
    distinct = sorted({label for _, labels in parts.values() for label in labels})
    if distinct and distinct[0] < 0:
        raise InputError(
            f"label {distinct[0]} in {name!r} is out of range: labels must be integers >= 0; remove these lines"
        )
    position = {label: index for index, label in enumerate(distinct)}
    moved = {part: (paths, [position[label] for label in labels]) for part, (paths, labels) in parts.items()}
    return [str(label) for label in distinct], moved


def _class_names(folder: Path) -> list[str] | None:
    """Read the class names from the folder of the lists, if it has them."""
    if (folder / "classnames.txt").is_file():
        lines = read_text(folder / "classnames.txt").split("\n")
        pairs = [line.split(None, 1) for line in lines if line.strip()]
        return _unique([(pair[0], pair[-1].strip()) for pair in pairs])
    if (folder / "categories.json").is_file():
        return _from_categories(folder / "categories.json")
    return None


def _from_categories(path: Path) -> list[str]:
    try:
        entries = sorted((int(entry["id"]), str(entry["name"])) for entry in json.loads(read_text(path)))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f'{str(path)!r} must be a JSON list of mappings with "id" and "name": {error}') from error
    if [label for label, _ in entries] != list(range(len(entries))):
        raise InputError(f"the ids of the {len(entries):,} classes in {str(path)!r} must be 0 to {len(entries) - 1:,}")
    return _unique([(str(label), name) for label, name in entries])


def _unique(pairs: list[tuple[str, str]]) -> list[str]:
    """Append the identifier to names that two classes share (ImageNet has two kinds of crane)."""
    uses = Counter(name for _, name in pairs)
    return [name if uses[name] == 1 else f"{name} ({identifier})" for identifier, name in pairs]
