"""Class-aware sampling (Shen et al., "Relay Backpropagation for Effective Learning of Deep CNNs", ECCV 2016).

https://arxiv.org/abs/1512.05830, Sec. 3.3. There is one shuffled list of the classes and one of the images of each
class; a list is reshuffled when it is used up. Drawing four images of a class in a row follows the code of OLTR,
classifier-balancing and BALMS. In that code, the lists continue from epoch to epoch, and an epoch has K times as many
images as the most frequent class. Here, an epoch is a function of its number and has `num_samples` images.
Shapes: N = training images, M = images per epoch, K = classes with at least one image, R = rounds over the classes,
P = passes over the images of one class (all classes together), E = entries of these passes.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from longtail.ranges import check_number
from longtail.samplers.base import Sampler
from longtail.samplers.by_class import ByClass


class ClassAwareSampler(Sampler):
    """Class-balanced sampling without replacement: no image repeats before all images of its class were drawn.

    All classes are drawn equally often, up to one turn.

    Args:
        targets: Label of each training image, shape (N,).
        per_class: Consecutive draws from a class in each of its turns. Default: 4.
        num_samples: Images per epoch over all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Raises:
        InputError: If `per_class` is not an integer >= 1.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = ClassAwareSampler(targets, num_samples=24).order(seed=0, epoch=0)
        >>> targets[order].view(6, 4).sum(dim=1).sort().values  # six turns of four images, three for each class
        tensor([0, 0, 0, 4, 4, 4])
        >>> targets[order.unique()].sum()  # twelve draws of the rare class include all its ten images
        tensor(10)
    """

    balances: ClassVar[bool] = True

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        *,
        per_class: int = 4,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(targets, num_samples=num_samples, seed=seed, rank=rank, num_ranks=num_ranks)
        check_number("per_class", per_class, "4 in the authors' code", integer=True, at_least=1)
        self.per_class = per_class
        self.groups = ByClass(self.targets_N)

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch, shape (M,)."""
        groups, num_classes = self.groups, len(self.groups.counts_K)
        rounds = -(-self.num_samples // (num_classes * self.per_class))
        turns_RK = torch.rand(rounds, num_classes, generator=generator, dtype=torch.float64).argsort(dim=1)
        passes_K = -(-rounds * self.per_class // groups.counts_K)
        classes_P = torch.repeat_interleave(passes_K)
        lengths_P = groups.counts_K[classes_P]
        entries_E = _shuffled_within(lengths_P, generator)

        steps_M = torch.arange(self.num_samples)
        turns_M = steps_M // self.per_class
        drawn_M = turns_M // num_classes * self.per_class + steps_M % self.per_class  # earlier draws from the class
        lengths_K = passes_K * groups.counts_K
        entries_M = entries_E[(lengths_K.cumsum(0) - lengths_K)[turns_RK.flatten()[turns_M]] + drawn_M]
        # position in `members_N` of entry 0 if the pass contained it
        members_P = groups.starts_K[classes_P] - (lengths_P.cumsum(0) - lengths_P)
        return groups.members_N[torch.repeat_interleave(members_P, lengths_P)[entries_M] + entries_M]


def _shuffled_within(lengths_P: Tensor, generator: torch.Generator) -> Tensor:
    """Cut 0, 1, 2, ... into pieces of the given lengths and shuffle each piece: shape (E,)."""
    pieces_E = torch.repeat_interleave(lengths_P)
    # one integer key sorts much faster than a pair of keys; two equal draws in a piece (probability 2**-32 per pair)
    # keep their order
    keys_E = (pieces_E << 32) | torch.randint(2**32, pieces_E.shape, generator=generator)
    return keys_E.sort(stable=True).indices
