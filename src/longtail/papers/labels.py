"""Which classes a figure singles out.

Shapes: C = classes.
"""

from collections.abc import Sequence

from longtail.errors import InputError, unknown_name
from longtail.report.classes import Classes

MOST_PANELS = 6


def labels_of(names: Sequence[str], classes: Classes) -> list[int]:
    """The labels of classes by their names.

    Raises:
        InputError: for an unknown class, with the nearest, or one given twice.

    Example:
        >>> import torch
        >>> labels_of(["eel", "cat"], Classes.grouped(("cat", "dog", "eel"), torch.tensor([300, 50, 5])))
        [2, 0]
    """
    for name in names:
        if name not in classes.names:
            raise unknown_name("class", name, classes.names)
    if len(set(names)) < len(names):
        raise InputError(f"each class can be given once, not {', '.join(names)}")
    return [classes.names.index(name) for name in names]


def chosen_labels(names: Sequence[str] | None, classes: Classes) -> list[int]:
    """The classes of the panels: those named, or the middle one by count of each group that has any.

    Raises:
        InputError: for an unknown class, or more than a figure has room for.

    Example:
        >>> import torch
        >>> chosen_labels(None, Classes.grouped(("cat", "dog", "eel"), torch.tensor([300, 50, 5])))
        [0, 1, 2]
    """
    if names is not None:
        if not 1 <= len(names) <= MOST_PANELS:
            raise InputError(f"a figure has room for 1 to {MOST_PANELS} classes, not {len(names)}")
        return labels_of(names, classes)
    middles = []
    for group in classes.filled:
        members = [label for label in classes.order.tolist() if classes.masks[group][label]]
        middles.append(members[len(members) // 2])
    return middles


def panel_title(label: int, classes: Classes) -> str:
    r"""A class with its group and its training images, for the head of a panel.

    Example:
        >>> import torch
        >>> panel_title(1, Classes.grouped(("cat", "dog"), torch.tensor([300, 1500])))
        'dog\nmany, 1,500 images'
    """
    name = " ".join(classes.names[label].split())
    shown = name if len(name) <= 22 else name[:21] + "…"
    return f"{shown}\n{classes.group_names[label]}, {int(classes.counts[label]):,} images"
