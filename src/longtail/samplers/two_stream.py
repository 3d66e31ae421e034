"""Two streams of images side by side: one as the data are, and one in which rare classes dominate.

What CMO (Park et al., CVPR 2022, https://arxiv.org/abs/2112.00412) and SMART (WACV 2024, Algorithm 1) call the head-
and the tail-dominated loader. The streams alternate image by image, so that any batch of even size is half of each:
its even rows are of the first stream, its odd rows of the second.
Shapes: N = training images, M = images of an epoch over both streams.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

import longtail.samplers as samplers
from longtail.component import Component
from longtail.config.convert import from_mapping
from longtail.errors import InputError
from longtail.samplers.base import Contract, Sampler


class TwoStreamSampler(Sampler):
    """Images of two samplers in turn, one of the first, one of the second.

    Args:
        targets: label of each training image, shape (N,).
        first: sampler of the even places: a name, or a name with its options.
        second: sampler of the odd places.
        contract: `num_samples` (over both streams), `seed`, `rank` and `num_ranks`, see `Sampler`. A rank takes pairs,
            one image of each stream.

    Raises:
        InputError: for an unknown sampler or option, or a sampler that is given a `num_samples` of its own.

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
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(targets, **contract)
        half = {"num_samples": -(-self.num_samples // 2)}
        self.first, self.second = (self._stream(each, half) for each in (first, second))

    def draw(self, generator: torch.Generator, progress: float) -> Tensor:
        """Indices of one epoch, shape (M,)."""
        streams = [stream.draw(generator, progress) for stream in (self.first, self.second)]
        return torch.stack(streams, dim=1).flatten()[: self.num_samples]

    def _stream(self, given: str | Component | Mapping[str, Any], contract: Mapping[str, Any]) -> Sampler:
        component: Component = from_mapping(Component, given, "stream")
        if "num_samples" in component.options:
            raise InputError(
                f"{component.name} can not have num_samples of its own where two streams alternate: each gives half of "
                "the images of an epoch; leave it out"
            )
        stream: Sampler = Component(component.name, {**contract, **component.options}).build(samplers, self.targets_N)
        return stream
