"""Class-aware sampling (Shen et al., "Relay Backpropagation for Effective Learning of Deep CNNs", ECCV 2016).

https://arxiv.org/abs/1512.05830, Sec. 3.3: two kinds of shuffled lists, one of the classes and one of the images of
each class, each shuffled anew when it is used up. The four consecutive draws of a class are those of the code of OLTR,
classifier-balancing and BALMS. There the lists run on from epoch to epoch, and an epoch has K times as many images as
the fullest class; here an epoch is a function of its number, and as long as `num_samples` says.
Shapes: N = training images, M = images of an epoch, K = classes with at least one image, R = rounds over the classes,
P = passes over the images of one class (all classes together), E = entries of these passes.
"""

from collections.abc import Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.samplers.base import Contract, Sampler
from longtail.samplers.by_class import ByClass


class ClassAwareSampler(Sampler):
    """Every class equally often, give or take one turn, and no image twice before all of its class were seen.

    Args:
        targets: label of each training image, shape (N,).
        per_class: consecutive draws from a class, each time it has its turn.
        contract: `num_samples`, `seed`, `rank` and `num_ranks`, see `Sampler`.

    Raises:
        InputError: if `per_class` is less than 1.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ClassAwareSampler(targets, num_samples=24).order(seed=0, epoch=0)
        >>> targets[order].view(6, 4).sum(dim=1).sort().values  # six turns of four images, three for each class
        tensor([0, 0, 0, 4, 4, 4])
        >>> targets[order.unique()].sum()  # twelve draws of the rare class show all its ten images
        tensor(10)
    """

    balances: ClassVar[bool] = True

    def __init__(self, targets: Tensor | Sequence[int], *, per_class: int = 4, **contract: Unpack[Contract]) -> None:
        super().__init__(targets, **contract)
        if not isinstance(per_class, int) or per_class < 1:
            raise InputError(f"per_class must be a whole number, at least 1 (4 in the authors' code), not {per_class}")
        self.per_class = per_class
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        groups, num_classes = self.groups, len(self.groups.counts_K)
        rounds = -(-self.num_samples // (num_classes * self.per_class))
        turns_RK = torch.rand(rounds, num_classes, generator=generator, dtype=torch.float64).argsort(dim=1)
        passes_K = -(-rounds * self.per_class // groups.counts_K)
        classes_P = torch.repeat_interleave(passes_K)
        lengths_P = groups.counts_K[classes_P]
        entries_E = _shuffled_within(lengths_P, generator)

        steps_M = torch.arange(self.num_samples)
        turns_M = steps_M // self.per_class
        drawn_M = turns_M // num_classes * self.per_class + steps_M % self.per_class  # from this class, so far
        lengths_K = passes_K * groups.counts_K
        entries_M = entries_E[(lengths_K.cumsum(0) - lengths_K)[turns_RK.flatten()[turns_M]] + drawn_M]
        members_P = groups.starts_K[classes_P] - (lengths_P.cumsum(0) - lengths_P)  # of entry 0, were it in the pass
        return groups.members_N[torch.repeat_interleave(members_P, lengths_P)[entries_M] + entries_M]


def _shuffled_within(lengths_P: Tensor, generator: torch.Generator) -> Tensor:
    """The numbers 0, 1, 2, ... cut into pieces of these lengths, each piece shuffled: shape (E,)."""
    pieces_E = torch.repeat_interleave(lengths_P)
    # sorts far faster than a pair of keys; two equal draws in a piece, once in 2**32 pairs, stay in order
    keys_E = (pieces_E << 32) | torch.randint(2**32, pieces_E.shape, generator=generator)
    return keys_E.sort(stable=True).indices
