"""The classes of a report: names, training counts and shot groups.

Shapes: C = classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from longtail.evaluation.metrics import Groups, shot_groups


@dataclass(frozen=True, eq=False)
class Classes:
    """Names, training counts and groups of the classes, as charts and tables need them.

    Args:
        names: C names, in the order of the labels.
        counts: Training images of each class, shape (C,).
        masks: Members of the groups "many", "medium" and "few", each of shape (C,).
        limits: Condition for membership in each group, as text.

    Example:
        >>> classes = Classes.grouped(("cat", "dog", "eel"), torch.tensor([5, 300, 40]))
        >>> classes.order.tolist(), classes.group_names
        ([1, 2, 0], ('few', 'many', 'medium'))
        >>> classes.limits["few"]
        'fewer than 20 training images'
    """

    names: tuple[str, ...]
    counts: Tensor
    masks: Mapping[str, Tensor]
    limits: Mapping[str, str]

    @classmethod
    def grouped(
        cls, names: tuple[str, ...], counts: Tensor, many: int = 100, few: int = 20, groups: Groups = "fixed"
    ) -> "Classes":
        """Assign the classes to groups, as `evaluate_logits` does.

        Args:
            names: C names.
            counts: Training images of each class, shape (C,).
            many: A class with more images than this is in "many".
            few: A class with fewer images than this is in "few".
            groups: "fixed" uses `many` and `few`; "quantile" uses thirds of the classes.

        Raises:
            InputError: If `groups` is unknown, or `few` exceeds `many`.
        """
        masks = shot_groups(counts, many, few, groups)
        if groups == "quantile":
            return cls(names, counts, masks, _THIRDS)
        limits = {
            "many": f"more than {many:,} training images",
            "medium": f"{few:,} to {many:,} training images",
            "few": f"fewer than {few:,} training images",
        }
        return cls(names, counts, masks, limits)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def order(self) -> Tensor:
        """Labels from the most to the least frequent class, shape (C,)."""
        return torch.argsort(self.counts, descending=True, stable=True)

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """Group of each class."""
        names = list(self.masks)
        index_C = torch.stack([self.masks[name] for name in names]).int().argmax(0)
        return tuple(names[index] for index in index_C.tolist())

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """Groups with at least one class."""
        return tuple(name for name, mask_C in self.masks.items() if mask_C.any())

    @property
    def described(self) -> str:
        """Limits of all groups in one line."""
        return "; ".join(f"{name}-shot: {limit}" for name, limit in self.limits.items())


_THIRDS = {
    "many": "the third of the classes with the most training images",
    "medium": "the middle third of the classes",
    "few": "the third of the classes with the fewest training images",
}
