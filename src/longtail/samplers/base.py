"""Base class of all samplers, and instance-balanced sampling.

The order of an epoch is a function of (seed, epoch). A sampler therefore resumes within an epoch by skipping images,
and several ranks share one order, of which each takes a part.
Shapes: N = training images, M = images per epoch, C = classes.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Sampler as TorchSampler

from longtail._random import generator as generator_for
from longtail.component import format_options
from longtail.errors import InputError
from longtail.ranges import check_number


class Sampler(TorchSampler[int]):
    """Base class of samplers. Subclasses implement `draw`.

    Usable as the `sampler` of a `torch.utils.data.DataLoader`. Each iteration starts at the beginning of an epoch, also
    after one that was left by `break`. The epochs count up by themselves until `set_epoch` is called, which then
    selects the epoch of all following iterations. Only `load_state_dict` continues within an epoch.

    Attributes:
        balances: Whether the sampler evens out the classes. A balanced loss would then correct a second time.
        streams: Number of consecutive images that stay on one rank: one of each stream.

    Args:
        targets: Label of each training image, shape (N,); a tensor or a list.
        num_samples: Images per epoch over all ranks, M. Default: the number of training images.
        seed: Seed of the orders. Default: 0.
        rank: Index of this process, in [0, `num_ranks`). It takes every `num_ranks`-th image of the common order. The
            order is padded from its start so that all ranks take the same number.
        num_ranks: Number of processes that share an epoch. Default: 1.

    Raises:
        InputError: If there is no image, a label is negative or not an integer, or `num_samples`, `rank` or `num_ranks`
            is out of range.
    """

    balances: ClassVar[bool] = False
    streams: ClassVar[int] = 1

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        *,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.targets_N = checked_labels(targets)
        self.num_samples = len(self.targets_N) if num_samples is None else num_samples
        check_number("num_samples", num_samples, integer=True, optional=True, at_least=1)
        check_number("seed", seed, integer=True)
        check_number("num_ranks", num_ranks, integer=True, at_least=1)
        check_number("rank", rank, f"below `num_ranks`, {num_ranks}", integer=True, at_least=0, below=num_ranks)
        self.seed, self.rank, self.num_ranks = seed, rank, num_ranks
        self.epoch = 0
        self.progress = 0.0
        self.position = 0
        self._counts_epochs = True  # until `set_epoch` is called
        self._fresh = True  # the next iteration is the first since the epoch or the position was set
        self._iterations = 0

    @abstractmethod
    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch.

        Args:
            generator: Only source of randomness.
            progress: Completed share of the training, in [0, 1).

        Returns:
            Indices of images, int64, shape (M,).
        """

    def order(self, seed: int, epoch: int, progress: float = 0.0) -> Tensor:
        """Return the indices of an epoch over all ranks, shape (M,), as a function of the arguments alone.

        Args:
            seed: Seed of the orders.
            epoch: Number of the epoch, from 0.
            progress: Completed share of the training, in [0, 1).
        """
        return self.draw(generator_for("order", type(self).__name__, seed, epoch), progress)

    def set_epoch(self, epoch: int, progress: float = 0.0) -> None:
        """Select the epoch of the next iterations, which start at its beginning.

        Args:
            epoch: Number of the epoch, from 0.
            progress: Completed share of the training, in [0, 1). Used only by samplers that change during training.
        """
        self.epoch, self.progress, self.position = epoch, progress, 0
        self._counts_epochs, self._fresh = False, True

    def __len__(self) -> int:
        return self.num_samples if self.num_ranks == 1 else self._groups() * self.streams

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_images={len(self.targets_N)}, {format_options(self, Sampler)})"

    def _groups(self) -> int:
        """Return the number of groups (one image of each stream) per rank."""
        return -(-self.num_samples // (self.num_ranks * self.streams))

    def __iter__(self) -> Iterator[int]:
        if not self._fresh:
            self.position = 0
            self.epoch += self._counts_epochs
        self._fresh = False
        self._iterations += 1
        this = self._iterations
        order_M = self.order(self.seed, self.epoch, self.progress)
        places = torch.arange(self._groups() * self.streams * self.num_ranks)
        whole = max(len(order_M) // self.streams * self.streams, 1)  # padding keeps each stream in its places
        filled = order_M[torch.where(places < len(order_M), places, places % whole)]
        mine = filled.view(-1, self.streams)[self.rank :: self.num_ranks].flatten()
        for position, index in enumerate(mine[self.position : len(self)].tolist(), self.position + 1):
            if this == self._iterations:  # an abandoned iteration does not move the position
                self.position = position
            yield index
        if this == self._iterations:  # a state saved from here on belongs to the next epoch
            self.position, self._fresh = 0, True
            self.epoch += self._counts_epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the iteration, from which the next one continues.

        The worker processes of a `DataLoader` draw ahead of the training. With workers, set "position" to the number of
        images that this rank has trained on in the epoch before saving.
        """
        place = {"epoch": self.epoch, "progress": self.progress, "position": self.position}
        return {**place, "counts_epochs": self._counts_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved position, from which the next iteration continues.

        Args:
            state: Result of `state_dict`.
        """
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.progress = float(state["progress"])
        self._counts_epochs, self._fresh = bool(state.get("counts_epochs", False)), True


class InstanceSampler(Sampler):
    """Instance-balanced sampling: every training image once per epoch, in a new order.

    The default of the field, and the right choice for a loss that corrects for the class counts. Classes are seen in
    proportion to their number of images.

    Args:
        targets: Label of each training image, shape (N,).
        num_samples: Images per epoch over all ranks, see `Sampler`. With more than N, the passes over the data repeat.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Example:
        >>> sampler = InstanceSampler([0, 0, 1])
        >>> sorted(sampler)
        [0, 1, 2]
    """

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch, shape (M,)."""
        num_images = len(self.targets_N)
        passes = -(-self.num_samples // num_images)
        orders = [torch.randperm(num_images, generator=generator) for _ in range(passes)]
        return torch.cat(orders)[: self.num_samples]


def checked_labels(targets: Tensor | Sequence[int]) -> Tensor:
    """Convert labels to int64 on the CPU, shape (N,), N >= 1.

    Raises:
        InputError: If the labels are not integers >= 0.

    Example:
        >>> checked_labels([2, 0])
        tensor([2, 0])
    """
    try:
        labels = torch.as_tensor(targets).cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # names, or lists of different lengths
        raise InputError(f"`targets` must be the integer labels of the training images: {error}") from error
    if labels.is_floating_point() or labels.ndim != 1 or len(labels) == 0 or int(labels.min()) < 0:
        smallest = f" with minimum {labels.min():g}" if labels.numel() else ""
        raise InputError(
            "`targets` must be the labels of the training images, integers >= 0 of shape (N,) with N >= 1, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}{smallest}"
        )
    return labels.long()
