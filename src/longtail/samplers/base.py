"""The contract of every sampler: an epoch's order is a function of (seed, epoch).

So a sampler has nothing to save: it resumes in mid-epoch by skipping, and ranks share one order, each taking its part.
Shapes: N = training images, M = images of an epoch, C = classes.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor
from torch.utils.data import Sampler as TorchSampler

from longtail._random import generator as generator_for
from longtail.errors import InputError


class Contract(TypedDict, total=False):
    """The options that every sampler takes; see `Sampler`."""

    num_samples: int
    seed: int
    rank: int
    num_ranks: int


class Sampler(TorchSampler[int]):
    """Order in which training images are seen. Subclasses implement `draw`.

    Works alone as the `sampler` of a `torch.utils.data.DataLoader`: call `set_epoch` before each epoch.

    Args:
        targets: label of each training image, shape (N,); a tensor or a list.
        num_samples: images of an epoch over all ranks, M; by default as many as there are training images.
        seed: of the orders.
        rank: which of `num_ranks` processes this is; it takes every `num_ranks`-th image of the common order, which is
            filled up from its start until all ranks have equally many.
        num_ranks: processes that share an epoch.

    Raises:
        InputError: if there is no image, a label is no whole number or negative, or rank and num_ranks do not fit.
    """

    # whether it evens out the classes, so that a balanced loss would do so twice
    balances: ClassVar[bool] = False
    # consecutive images that ranks do not part: one of each stream
    streams: ClassVar[int] = 1

    def __init__(self, targets: Tensor | Sequence[int], **contract: Unpack[Contract]) -> None:
        self.targets_N = checked_labels(targets)
        self.num_samples = contract.get("num_samples", len(self.targets_N))
        self.seed = contract.get("seed", 0)
        self.rank, self.num_ranks = contract.get("rank", 0), contract.get("num_ranks", 1)
        numbers = (self.num_samples, self.rank, self.num_ranks)
        whole = all(isinstance(number, int) for number in numbers)
        if not whole or self.num_samples < 1 or not 0 <= self.rank < self.num_ranks:
            raise InputError(
                "a sampler needs whole numbers num_samples >= 1 and 0 <= rank < num_ranks, "
                f"not {self.num_samples}, {self.rank} and {self.num_ranks}"
            )
        self.epoch = 0
        self.progress = 0.0
        self.position = 0

    @abstractmethod
    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, int64, shape (M,).

        Args:
            generator: the only source of randomness.
            progress: share of the training that lies behind, in [0, 1).
        """

    def order(self, seed: int, epoch: int, progress: float = 0.0) -> Tensor:
        """The epoch's indices over all ranks, shape (M,): a function of its arguments alone."""
        return self.draw(generator_for("order", type(self).__name__, seed, epoch), progress)

    def set_epoch(self, epoch: int, progress: float = 0.0) -> None:
        """Choose the epoch whose order the next iteration follows.

        Args:
            epoch: counted from 0.
            progress: share of the training that lies behind, in [0, 1); only a sampler that changes with it looks.
        """
        self.epoch, self.progress, self.position = epoch, progress, 0

    def __len__(self) -> int:
        return self.num_samples if self.num_ranks == 1 else self._groups() * self.streams

    def _groups(self) -> int:
        """Groups of one image of each stream that a rank sees."""
        return -(-self.num_samples // (self.num_ranks * self.streams))

    def __iter__(self) -> Iterator[int]:
        order_M = self.order(self.seed, self.epoch, self.progress)
        places = torch.arange(self._groups() * self.streams * self.num_ranks)
        whole = max(len(order_M) // self.streams * self.streams, 1)  # where an odd image is left, its place stays odd
        filled = order_M[torch.where(places < len(order_M), places, places % whole)]
        mine = filled.view(-1, self.streams)[self.rank :: self.num_ranks].flatten()
        for index in mine[self.position : len(self)].tolist():
            self.position += 1
            yield index
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands: the next one goes on from here.

        The worker processes of a `DataLoader` draw ahead of what was trained on; with them, set "position" to the
        number of images this rank has seen in the epoch before saving.
        """
        return {"epoch": self.epoch, "progress": self.progress, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved place."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.progress = float(state["progress"])


def checked_labels(targets: Tensor | Sequence[int]) -> Tensor:
    """Labels as int64 on the CPU, shape (N,), N >= 1.

    Raises:
        InputError: if they are not whole numbers >= 0.

    Example:
        >>> checked_labels([2, 0])
        tensor([2, 0])
    """
    try:
        labels = torch.as_tensor(targets).cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # names, or lists of different lengths
        raise InputError(f"a sampler needs the labels of the training images as whole numbers: {error}") from error
    if labels.is_floating_point() or labels.ndim != 1 or len(labels) == 0 or int(labels.min()) < 0:
        raise InputError(
            "a sampler needs the labels of the training images: whole numbers >= 0, shape (N,), N >= 1; "
            f"not {labels.dtype} of shape {tuple(labels.shape)}"
            + (f" with {labels.min():g} among them" if labels.numel() else "")
        )
    return labels.long()


def cycle_permutations(num_items: int, num_samples: int, generator: torch.Generator) -> Tensor:
    """Shuffled passes over `num_items` items, cut after `num_samples`: each item equally often, give or take one."""
    passes = -(-num_samples // num_items)
    orders = [torch.randperm(num_items, generator=generator) for _ in range(passes)]
    return torch.cat(orders)[:num_samples]
