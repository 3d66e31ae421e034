"""Held-out splits and folds of whole groups of images.

Shapes: N = images, C = classes, F = folds.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from longtail.errors import InputError


def grouped_holdout(targets: Tensor, groups: Tensor, per_class: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out whole groups, so that each class gives about a given number of images.

    The rarest class is served first, from its groups in random order. A group that exceeds the number of one of its
    classes is held out only if the class had none otherwise, and keeps at least half of its images. Every class keeps
    at least one image; a class of a single group gives none.

    Args:
        targets: Labels, shape (N,).
        groups: Group of each image, shape (N,).
        per_class: Number of images to hold out from each class, shape (C,).
        seed: Seed of the order of the groups.

    Returns:
        Indices kept and indices held out, each in the original order.

    Example:
        >>> labels, bursts = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2, 3])
        >>> kept, held = grouped_holdout(labels, bursts, torch.tensor([2, 1]), seed=0)
        >>> len(kept), held.tolist()[-1]
        (4, 6)
    """
    members = _members(targets, groups)
    total_C: list[int] = torch.bincount(targets, minlength=len(per_class)).tolist()
    wanted_C, held_C = per_class.tolist(), [0] * len(per_class)
    of_class = _groups_of_class(members, seed)
    chosen: set[int] = set()

    def take(label: int, group: int, exceed: bool) -> None:
        counts = members[group]
        if group in chosen or held_C[label] >= wanted_C[label]:
            return
        if any(held_C[each] + count >= total_C[each] for each, count in counts.items()):
            return
        if exceed and (held_C[label] or 2 * counts[label] > total_C[label]):
            return
        if not exceed and any(held_C[each] + count > wanted_C[each] for each, count in counts.items()):
            return
        chosen.add(group)
        for each, count in counts.items():
            held_C[each] += count

    for label in sorted(of_class, key=lambda each: (total_C[each], each)):
        for group in of_class[label]:
            take(label, group, exceed=False)
        for group in sorted(of_class[label], key=lambda each: members[each][label]):
            take(label, group, exceed=True)
    held_N = torch.tensor([group in chosen for group in groups.tolist()], dtype=torch.bool)
    everything = torch.arange(len(targets))
    return everything[~held_N], everything[held_N]


def assign_folds(targets: Tensor, groups: Tensor, folds: int, seed: int) -> Tensor:
    """Assign whole groups to folds in which each class has about the same number of images.

    A class of a single group is in the training part of every fold, since no model could be trained without it.

    Args:
        targets: Labels, shape (N,).
        groups: Group of each image, shape (N,).
        folds: Number of folds, >= 2.
        seed: Seed of the order of the groups.

    Returns:
        Fold of each image, int64, shape (N,); -1 for images that are never tested.

    Example:
        >>> assign_folds(torch.tensor([0, 0, 0, 0, 1]), torch.arange(5), 2, seed=0).sort().values
        tensor([-1,  0,  0,  1,  1])
    """
    members = _members(targets, groups)
    of_class = _groups_of_class(members, seed)
    total_C = torch.bincount(targets).numpy()
    filled_FC = np.zeros((folds, len(total_C)))
    fold_of = {own[0]: -1 for own in of_class.values() if len(own) == 1}
    for label in sorted(of_class, key=lambda each: (total_C[each], each)):
        for group in sorted(of_class[label], key=lambda each: -sum(members[each].values())):
            if group in fold_of:
                continue
            classes = list(members[group])
            shares_F = (filled_FC[:, classes] / total_C[classes]).sum(1)
            fold = int(np.lexsort((filled_FC.sum(1), shares_F.round(9)))[0])
            fold_of[group] = fold
            filled_FC[fold, classes] += list(members[group].values())
    for own in of_class.values():
        if len({fold_of[group] for group in own}) == 1:  # groups of several classes can meet in one fold
            fold_of[own[0]] = -1
    return torch.tensor([fold_of[group] for group in groups.tolist()])


def fold_rows(
    rows: Mapping[str, Tensor], targets_N: Tensor, groups_N: Tensor | None, folds: int, fold: int | None, seed: int
) -> dict[str, Tensor]:
    """Return the rows with one of several folds of the training images as the test split.

    Args:
        rows: Given splits, "train" among them.
        targets_N: Labels of all images.
        groups_N: Group of each image. None takes each image for itself.
        folds: Number of folds.
        fold: Fold that is the test split, from 0. None tests the images of all folds, and trains on all images.
        seed: Seed of the folds.

    Raises:
        InputError: If there is a test split already, no such fold, or a fold without images.
    """
    if "test" in rows:
        raise InputError("`folds` takes the place of a test split, and the data have one; leave `folds` out")
    if fold is not None and fold >= folds:
        raise InputError(f"`fold` must be below `folds` {folds}, got {fold}")
    train = rows["train"]
    groups = torch.arange(len(train)) if groups_N is None else groups_N[train]
    fold_N = assign_folds(targets_N[train], groups, folds, seed)
    if len(set(fold_N.tolist()) - {-1}) < folds:
        raise InputError(f"the images, in groups that stay together, are too few for `folds` {folds}; use fewer")
    if fold is None:
        return {**rows, "test": train[fold_N >= 0]}
    return {**rows, "train": train[fold_N != fold], "test": train[fold_N == fold]}


def _members(targets: Tensor, groups: Tensor) -> dict[int, dict[int, int]]:
    """Return the number of images of each class in each group."""
    members: dict[int, dict[int, int]] = {}
    for group, label in zip(groups.tolist(), targets.tolist(), strict=True):
        counts = members.setdefault(group, {})
        counts[label] = counts.get(label, 0) + 1
    return members


def _groups_of_class(members: Mapping[int, Mapping[int, int]], seed: int) -> dict[int, list[int]]:
    """Return the groups of each class in random order."""
    names = list(members)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    of_class: dict[int, list[int]] = {}
    for position in order:
        for label in members[names[position]]:
            of_class.setdefault(label, []).append(names[position])
    return of_class
