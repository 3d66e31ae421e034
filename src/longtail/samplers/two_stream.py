"""Two alternating streams of images: one instance-balanced, one dominated by rare classes.

CMO (Park et al., CVPR 2022, https://arxiv.org/abs/2112.00412) and SMART (WACV 2024, Algorithm 1) call them the head-
and the tail-dominated loader. The streams alternate image by image, so half of any batch of even size comes from each:
its even rows from the first stream, its odd rows from the second.
Shapes: N = training images, M = images per epoch over both streams.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

import longtail.samplers as samplers
from longtail.component import Component
from longtail.errors import InputError
from longtail.samplers.base import Sampler


class TwoStreamSampler(Sampler):
    """Alternation of two samplers: one image of the first, one of the second.

    A rank takes pairs, one image of each stream.

    Args:
        targets: Label of each training image, shape (N,).
        first: Sampler of the even positions: a name, or a mapping with a name and options.
        second: Sampler of the odd positions.
        num_samples: Images per epoch over both streams and all ranks, see `Sampler`.
        seed: Seed of the orders, see `Sampler`.
        rank: Index of this process, see `Sampler`.
        num_ranks: Number of processes that share an epoch, see `Sampler`.

    Raises:
        InputError: If a sampler or option is unknown, or a stream has its own `num_samples`.

    Example:
        >>> targets = torch.tensor([0] * 90 + [1] * 10)
        >>> order = TwoStreamSampler(targets, num_samples=2000).order(seed=0, epoch=0)
        >>> targets[order[0::2]].float().mean(), targets[order[1::2]].float().mean().round(decimals=1)
        (tensor(0.1000), tensor(0.5000))
    """

    streams: ClassVar[int] = 2

    def __init__(
        self,
        targets: Tensor | Sequence[int],
        *,
        first: str | Component | Mapping[str, Any] = "InstanceSampler",
        second: str | Component | Mapping[str, Any] = "ClassBalancedSampler",
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        super().__init__(targets, num_samples=num_samples, seed=seed, rank=rank, num_ranks=num_ranks)
        self.first, self.second = self._stream(first, "first"), self._stream(second, "second")

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Draw the indices of one epoch, shape (M,)."""
        streams = [stream.draw(generator, progress) for stream in (self.first, self.second)]
        return torch.stack(streams, dim=1).flatten()[: self.num_samples]

    def _stream(self, given: str | Component | Mapping[str, Any], where: str) -> Sampler:
        component = Component.parse(given, f"`{where}`")
        if "num_samples" in component.options:
            raise InputError(
                f"`num_samples` must not be set for the stream {component.name}, since each stream draws half of the "
                "images of an epoch. Set `num_samples` of TwoStreamSampler."
            )
        options = {"num_samples": -(-self.num_samples // 2), **component.options}
        stream: Sampler = Component(component.name, options).build(samplers, self.targets_N)
        return stream
