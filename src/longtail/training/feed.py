"""Batches of an epoch: order, augmentation and mixing are drawn before the epoch begins.

Shapes: S = steps of an epoch, B = batch (with the partners to mix with, if those are read in addition), R = random
numbers an image may use.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from longtail import _random as randomness
from longtail.augment.mixer import EpochMix, Mixer
from longtail.augment.mixing import Mixing
from longtail.augment.policies import policy
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Part
from longtail.data.resident import ResidentImages
from longtail.samplers.base import Sampler
from longtail.training.context import Context
from longtail.training.features import FeatureImages


class Feed(Protocol):
    """Source of the batches of a stage."""

    steps: int
    """Steps of an epoch."""
    batch_size: int
    """Images of a step, over all ranks."""
    stop_every: int
    """A run may stop after a multiple of this number of steps."""

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """Yield the arguments of `TrainState.update` for each step of an epoch, starting with step `first`."""


@dataclass(frozen=True)
class EpochPlan:
    """All random choices of an epoch.

    Args:
        order_SB: Indices of the images, on the CPU.
        uniforms_SBR: Random numbers of the augmentation, on the CPU.
        targets_SB: Labels, on the device.
        mix: Mixing of the images of each batch; None leaves images and labels unchanged.
    """

    order_SB: Tensor
    uniforms_SBR: Tensor
    targets_SB: Tensor
    mix: EpochMix | None = None

    def to(self, device: torch.device) -> "EpochPlan":
        """Return the plan with all tensors on a device."""
        return self._of([tensor.to(device) for tensor in self._tensors()])

    def at(self, position_1: Tensor) -> "EpochPlan":
        """Return the plan of one step, whose position is a tensor on the device of the plan."""
        return self._of([tensor.index_select(0, position_1) for tensor in self._tensors()])

    def copy_(self, other: "EpochPlan") -> None:
        """Overwrite the tensors with those of another plan of the same shapes."""
        for mine, its in zip(self._tensors(), other._tensors(), strict=True):
            mine.copy_(its)

    def _tensors(self) -> list[Tensor]:
        mixing = [] if self.mix is None else [self.mix.partners_SB.contiguous(), self.mix.numbers_SBR]
        return [self.order_SB, self.uniforms_SBR, self.targets_SB, *mixing]

    def _of(self, tensors: list[Tensor]) -> "EpochPlan":
        order_SB, uniforms_SBR, targets_SB, *mixing = tensors
        if self.mix is None:
            return EpochPlan(order_SB, uniforms_SBR, targets_SB)
        mix = replace(self.mix, partners_SB=mixing[0], numbers_SBR=mixing[1])
        return EpochPlan(order_SB, uniforms_SBR, targets_SB, mix)


class EpochFeed:
    """Batches in the order of a sampler, augmented and mixed.

    The last batch is filled up from the start of the order, so that all batches have one shape.

    Args:
        data: Images and labels.
        sampler: Sampler that gives the order of each epoch.
        settings: Training settings with the length in epochs.
        context: Seed, stage and device.
        mixing: Mixing that makes one image and a soft label of two, after augmentation.
    """

    stop_every = 1

    def __init__(
        self, data: Part, sampler: Sampler, settings: TrainingConfig, context: Context, mixing: Mixing | None = None
    ) -> None:
        self.data, self.sampler, self.epochs, self.device = data, sampler, settings.epochs, context.device
        self.batch_size, self.steps = shape_of_epoch(settings, sampler)
        self.augment = policy(settings.augment).to(context.device)
        self.stream = randomness.key("stream", context.seed, context.stage)
        shape = (self.steps, self.batch_size)
        self.mixer = None if mixing is None else Mixer(mixing, data.targets, shape, settings.epochs, context.device)

    @property
    def is_resident(self) -> bool:
        """Whether the images are tensors on the device, so that a batch can be selected there."""
        return isinstance(self.data.images, (ResidentImages, FeatureImages))

    def batch(self, plan_1: EpochPlan) -> tuple[Tensor, Tensor]:
        """Return images and labels of a plan of one step, selected and changed on the device."""
        assert isinstance(self.data.images, (ResidentImages, FeatureImages))
        pixels = self.data.images.pick(plan_1.order_SB[0])
        images, targets = self.augment(pixels, plan_1.uniforms_SBR[0]), plan_1.targets_SB[0]
        return (images, targets) if plan_1.mix is None else plan_1.mix(0, images, targets)

    def plan(self, epoch: int) -> EpochPlan:
        """Return the random choices of an epoch: a function of seed, stage and epoch."""
        shape = (self.steps, self.batch_size)
        order_M = self.sampler.order(self.stream, epoch, epoch / self.epochs)
        order_SB = order_M[torch.arange(shape[0] * shape[1]) % len(order_M)].view(shape)
        uniforms_SBR = randomness.uniforms((*shape, self.augment.num_uniforms), "augment", self.stream, epoch)
        mix = None if self.mixer is None else self.mixer.of_epoch(self.stream, epoch)
        if mix is not None and mix.order_SB is not None:
            partners_SBR = randomness.uniforms(tuple(uniforms_SBR.shape), "augment-partners", self.stream, epoch)
            order_SB = torch.cat([order_SB, mix.order_SB], dim=1)
            uniforms_SBR = torch.cat([uniforms_SBR, partners_SBR], dim=1)
        return EpochPlan(order_SB, uniforms_SBR, self.data.targets[order_SB].to(self.device), mix)

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of each step of an epoch, starting with step `first`."""
        plan = self.plan(epoch)
        uniforms_SBR = plan.uniforms_SBR.to(self.device)
        reader_SBR = plan.uniforms_SBR[first:] if self.augment.reader_uniforms > 0 else None
        for index, pixels in enumerate(self.data.images.batches(plan.order_SB[first:], reader_SBR), first):
            images, targets = self.augment(pixels, uniforms_SBR[index]), plan.targets_SB[index]
            yield (images, targets) if plan.mix is None else plan.mix(index, images, targets)


def shape_of_epoch(settings: TrainingConfig, sampler: Sampler) -> tuple[int, int]:
    """Return the batch size and the steps of an epoch."""
    batch = min(settings.batch_size, sampler.num_samples)
    return batch, -(-sampler.num_samples // batch)
