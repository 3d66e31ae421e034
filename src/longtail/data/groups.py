"""Groups of images that belong together: bursts, tracks, patients and near-duplicates. No split separates them.

Shapes: N = images, G = groups, C = classes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from torch import Tensor

from longtail._tables import normalized
from longtail.config.schema import DataConfig
from longtail.data.duplicates import Matches, similar_pairs
from longtail.data.formats.listing import GROUP_RULES, SPLIT_NAMES, Listing
from longtail.errors import InputError

LARGEST_SIMILAR = 50
"""Chains of more near-duplicates are images of one kind, such as dark ones, and not copies of one image."""
LEAST_GROUPS = 3
_BURST = re.compile(r"(.*[0-9].*?)[_.-][0-9]+")


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups of the images of a data set.

    Args:
        groups: Group of each image, int64, shape (N,).
        found: How the groups were found, for a note.
    """

    groups: Tensor
    found: tuple[str, ...]

    def note(self) -> str:
        """Return a sentence on the groups."""
        sizes_G = self.groups.bincount()
        several = int((sizes_G > 1).sum())
        return (
            f"{several:,} groups of images are not separated by a held-out split; they were found by "
            f"{' and '.join(self.found)}. The largest has {int(sizes_G.max()):,} images; `group` none turns this off."
        )


def groups_of(
    listing: Listing, config: DataConfig, targets: Tensor, class_names: Sequence[str], thumbs: Tensor | None
) -> Grouping | None:
    """Find the groups of the images of a listing. Near-duplicates count only where a split is held out.

    Args:
        listing: Image files, of all splits.
        config: Settings, of which the rule and those of the held-out splits are used.
        targets: Labels of the N images, int64.
        class_names: C names.
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9). None omits near-duplicates.

    Raises:
        InputError: If the rule is a column, and the listing has none.
    """
    parts = [listing.parts[part] for part in SPLIT_NAMES if part in listing.parts]
    paths = [path for part in parts for path in part.paths]
    entries = None
    if any(part.groups is not None for part in parts):
        entries = [group for part in parts for group in part.groups or [""] * len(part)]
    holds_out = "test" not in listing.parts or ("val" not in listing.parts and config.val_share > 0)
    return find_groups(config.group, paths, targets, class_names, entries, thumbs if holds_out else None)


def group_notes(grouping: Grouping | None, listing: Listing, rows: Mapping[str, Tensor]) -> list[str]:
    """Return notes on the groups, and on those that the given splits of the data separate.

    Args:
        grouping: Groups of the images, if any.
        listing: Image files, of all splits.
        rows: Indices of the images of each split.
    """
    if grouping is None:
        return []
    notes = [grouping.note()]
    train_G, test_G = (
        grouping.groups[rows[part]].bincount(minlength=len(grouping.groups)) for part in ("train", "test")
    )
    shared = int(((train_G > 0) & (test_G > 0)).sum())
    if "test" in listing.parts and shared:
        notes.append(f"{shared:,} groups are both in the training split and in the test split of the data.")
    return notes


def find_groups(
    rule: str,
    paths: Sequence[str],
    targets: Tensor,
    class_names: Sequence[str],
    entries: Sequence[str] | None = None,
    thumbs: Tensor | None = None,
) -> Grouping | None:
    """Find the groups of a data set.

    "folder" takes the folders one level below the class folder, or the folder of an image if no folder has the name of
    its class. "name" takes the bursts of files in one folder that differ only in a last number, as in
    `IMG_0001_003.jpg`, where the rest holds a number too. "similar" takes near-duplicates. "auto" combines the entries
    of a table, near-duplicates, and those of the rules for folders and names that are plausible: in most classes, there
    are at least three groups, of which none holds more than half of the class.

    Args:
        rule: One of `GROUP_RULES`, or the column that the entries are from.
        paths: N paths, with "/" between folders.
        targets: Labels, int64, shape (N,).
        class_names: C names.
        entries: Group of each image in a table; "" for an image of its own.
        thumbs: Gray images of 9 x 8 pixels, uint8, shape (N, 8, 9). None omits near-duplicates.

    Returns:
        The groups; None if every image is one of its own.

    Raises:
        InputError: If the rule is a column, and there are no entries.

    Example:
        >>> names = [f"{label}/{burst}_{frame}.png" for label in ("cat", "dog") for burst in "123" for frame in "45"]
        >>> find_groups("auto", names, torch.tensor([0] * 6 + [1] * 6), ["cat", "dog"]).groups
        tensor([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    """
    if rule == "none":
        return None
    if rule not in GROUP_RULES and entries is None:
        raise InputError(f"`group` must be {', '.join(GROUP_RULES)}, or a column of a table, got {rule!r}")
    links: dict[str, Matches] = {}
    if entries is not None and (rule == "auto" or rule not in GROUP_RULES):
        links["a column of the table" if rule == "auto" else f"the column {rule!r}"] = _links(entries)
    for name, (keys, how) in _by_path(rule, paths, targets, class_names).items():
        if rule == name or _is_plausible(keys, targets):
            links[how] = _links(keys)
    if rule in ("auto", "similar") and thumbs is not None:
        links["their likeness (near-duplicates)"] = _copies(thumbs)
    links = {how: pairs for how, pairs in links.items() if pairs}
    if not links:
        return None
    pairs = np.array([pair for each in links.values() for pair in each]).reshape(-1, 2)
    return Grouping(_components(pairs, len(paths)), tuple(links))


def _by_path(
    rule: str, paths: Sequence[str], targets: Tensor, class_names: Sequence[str]
) -> Mapping[str, tuple[list[str], str]]:
    """Return the key of each image and the description of the rules for paths that are to be tried."""
    known = {}
    if rule in ("auto", "folder"):
        labels = [normalized(class_names[label]) for label in targets.tolist()]
        keys = [_folder_key(PurePosixPath(path), label) for path, label in zip(paths, labels, strict=True)]
        known["folder"] = keys, f"their folders, such as {next(filter(None, keys), '')}"
    if rule in ("auto", "name"):
        keys = [_burst_key(path) for path in paths]
        if rule == "name" or 2 * sum(map(bool, keys)) >= len(keys):
            known["name"] = keys, f"burst names, such as {next(filter(None, keys), '')}_*"
    return known


def _folder_key(path: PurePosixPath, label: str) -> str:
    folders = path.parts[:-1]
    depth = next((index for index, name in enumerate(folders) if normalized(name) == label), None)
    if depth is None:
        return "/".join(folders)
    return "/".join(folders[: depth + 2]) if len(folders) > depth + 1 else ""


def _burst_key(path: str) -> str:
    file = PurePosixPath(path)
    match = _BURST.fullmatch(file.stem)
    return "" if match is None else str(file.parent / match[1])


def _is_plausible(keys: Sequence[str], targets: Tensor) -> bool:
    """Return whether most classes have several groups, and groups of several images."""
    by_class: dict[int, dict[str, int]] = {}
    for index, (key, label) in enumerate(zip(keys, targets.tolist(), strict=True)):
        groups = by_class.setdefault(label, {})
        key = key or f"\0{index}"
        groups[key] = groups.get(key, 0) + 1
    sizes = [list(groups.values()) for groups in by_class.values()]
    fine = sum(len(each) >= LEAST_GROUPS and 2 * max(each) <= sum(each) for each in sizes)
    grouped = sum(size for each in sizes for size in each if size > 1)
    return 2 * fine >= len(sizes) and 2 * grouped >= len(targets)


def _links(keys: Sequence[str]) -> Matches:
    """Return pairs that link the images of each group to its first one."""
    first: dict[str, int] = {}
    pairs = [(first.setdefault(key, index), index) for index, key in enumerate(keys) if key]
    return [(a, b) for a, b in pairs if a != b]


def _copies(thumbs: Tensor) -> Matches:
    pairs = np.array(similar_pairs(thumbs), dtype=np.int64).reshape(-1, 2)
    groups_N = _components(pairs, len(thumbs))
    small_N = groups_N.bincount()[groups_N] <= LARGEST_SIMILAR
    return [(a, b) for a, b in pairs.tolist() if small_N[a]]


def _components(pairs: np.typing.NDArray[np.int64], count: int) -> Tensor:
    from scipy.sparse import coo_matrix  # an import that most data sets do not need
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, groups_N = connected_components(links, directed=False)
    return torch.from_numpy(groups_N.astype(np.int64))
