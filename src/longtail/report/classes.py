"""The classes as a report shows them: named, counted, grouped, the fullest first.

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
    """What figures and tables need to know of the classes.

    Args:
        names: C names, in the order of the labels.
        counts: training images of each class, shape (C,).
        masks: of the classes of "many", "medium" and "few", each of shape (C,).
        limits: what makes a class belong to each group, in words.

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
        """Put the classes into their groups, as `evaluate_logits` does.

        Args:
            names: C names.
            counts: training images of each class, shape (C,).
            many: a class with more images than this is "many".
            few: a class with fewer images than this is "few".
            groups: "fixed" uses `many` and `few`; "quantile" takes thirds of the classes.

        Raises:
            InputError: for another kind of groups, or if `few` exceeds `many`.
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
        """The classes from the most training images to the fewest, shape (C,)."""
        return torch.argsort(self.counts, descending=True, stable=True)

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """The group of each class."""
        names = list(self.masks)
        index_C = torch.stack([self.masks[name] for name in names]).int().argmax(0)
        return tuple(names[index] for index in index_C.tolist())

    @cached_property
    def filled(self) -> tuple[str, ...]:
        """The groups that have a class."""
        return tuple(name for name, mask_C in self.masks.items() if mask_C.any())


_THIRDS = {
    "many": "the third of the classes with the most training images",
    "medium": "the middle third of the classes",
    "few": "the third of the classes with the fewest training images",
}
