"""Mixing within a stage: who is whose partner in each epoch, drawn before the epoch begins.

Like every order, a function of (seed, stage, epoch), so that a resumed run mixes the same.
Shapes: N = training images, S = steps of an epoch, B = batch, W = images read for a step (B, or 2 B where the partners
are read beside the batch), C = colour channels of images, classes of targets, R = numbers of an image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail import _random as randomness
from longtail.augment.mixing.base import Mixing
from longtail.errors import InputError


@dataclass(frozen=True)
class EpochMix:
    """All that is random about the mixing of one epoch.

    Args:
        mixing: on the device.
        order_SB: images to read beside those of each batch, on the CPU; None where the partners are in the batch.
        partners_SB: where, among the W images of a step, the partner of each image is; on the device.
        numbers_SBR: what the mixing takes, on the device.
    """

    mixing: Mixing
    order_SB: Tensor | None
    partners_SB: Tensor
    numbers_SBR: Tensor

    def __call__(self, step: int, images_WCHW: Tensor, targets_W: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images (B, C, H, W) and soft targets (B, C) of a step."""
        partners_B, batch = self.partners_SB[step], self.partners_SB.shape[1]
        mixed: tuple[Tensor, Tensor] = self.mixing(
            images_WCHW[:batch],
            targets_W[:batch],
            images_WCHW[partners_B],
            targets_W[partners_B],
            self.numbers_SBR[step],
        )
        return mixed


class Mixer:
    """A mixing at work in a stage.

    Args:
        mixing: is moved to the device.
        targets_N: label of each training image.
        shape: steps of an epoch and images of a batch, (S, B).
        epochs: of the stage.
        device: where training runs.

    Raises:
        InputError: if the mixing would act in none of the epochs.
    """

    def __init__(
        self, mixing: Mixing, targets_N: Tensor, shape: tuple[int, int], epochs: int, device: torch.device
    ) -> None:
        if not any(mixing.acts_in(epoch, epochs) for epoch in range(epochs)):
            raise InputError(
                f"{type(mixing).__name__} is off in the first {mixing.off_first} and in the last {mixing.off_last} "
                f"epochs, which leaves none of {epochs}; train longer, or lower its off_first and off_last"
            )
        self.mixing, self.shape, self.epochs, self.device = mixing.to(device), shape, epochs, device
        kind = mixing.partner_sampler
        self.sampler = None if kind is None else kind(targets_N, num_samples=shape[0] * shape[1])

    def of_epoch(self, stream: int, epoch: int) -> EpochMix | None:
        """The mixing of an epoch; None where it does not act.

        Args:
            stream: seed of the stage.
            epoch: counted from 0.
        """
        if not self.mixing.acts_in(epoch, self.epochs):
            return None
        steps, batch = self.shape
        uniforms_SBR = randomness.uniforms((*self.shape, self.mixing.num_uniforms), "mix", stream, epoch)
        if self.sampler is None:
            order_SB = None
            partners_SB = randomness.uniforms(self.shape, "mix-partners", stream, epoch).argsort(dim=1, stable=True)
        else:
            # of its own seed: with the stream's, the stage's own sampler would pair every image with itself
            order_M = self.sampler.order(randomness.key("mix-partners", stream), epoch, epoch / self.epochs)
            order_SB = order_M[torch.arange(steps * batch) % len(order_M)].view(self.shape)
            partners_SB = torch.arange(batch, 2 * batch).expand(steps, batch)
        numbers_SBR = self.mixing.numbers(uniforms_SBR).to(self.device)
        return EpochMix(self.mixing, order_SB, partners_SB.to(self.device), numbers_SBR)
