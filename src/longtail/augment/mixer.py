"""Mixing within a training stage: the partner of each image in an epoch, drawn before the epoch starts.

The partners are a function of (seed, stage, epoch), so a resumed run mixes the same images. Shapes: N = training
images, S = steps per epoch, B = batch, W = images read per step (B, or 2 B if the partners are read in addition to the
batch), C = color channels of images, classes of targets, R = numbers per image.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from longtail import _random as randomness
from longtail.augment.mixing import Mixing
from longtail.errors import InputError


@dataclass(frozen=True)
class EpochMix:
    """Random choices of the mixing of one epoch.

    Args:
        mixing: Mixing on the device.
        order_SB: Images to read in addition to each batch, on the CPU; None if the partners are in the batch.
        partners_SB: Position of the partner of each image among the W images of a step, on the device.
        numbers_SBR: Random numbers of the mixing, on the device.
    """

    mixing: Mixing
    order_SB: Tensor | None
    partners_SB: Tensor
    numbers_SBR: Tensor

    def __call__(self, step: int, images_WCHW: Tensor, targets_W: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the images of a step.

        Args:
            step: Number of the step in the epoch.
            images_WCHW: Images of the batch, followed by the partners that were read in addition.
            targets_W: Labels of these images.

        Returns:
            Mixed images (B, C, H, W) and soft targets (B, C).
        """
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
    """Mixing of a training stage.

    Args:
        mixing: Mixing, which is moved to the device.
        targets_N: Label of each training image.
        shape: Steps per epoch and images per batch, (S, B).
        epochs: Number of epochs of the stage.
        device: Device of the training.

    Raises:
        InputError: If the mixing would be off in all epochs.
    """

    def __init__(
        self, mixing: Mixing, targets_N: Tensor, shape: tuple[int, int], epochs: int, device: torch.device
    ) -> None:
        if not any(mixing.acts_in(epoch, epochs) for epoch in range(epochs)):
            raise InputError(
                f"{type(mixing).__name__} is off in the first {mixing.off_first} and last {mixing.off_last} epochs, "
                f"which leaves none of {epochs}. Train longer, or lower `off_first` and `off_last`."
            )
        self.mixing, self.shape, self.epochs, self.device = mixing.to(device), shape, epochs, device
        kind = mixing.partner_sampler
        self.sampler = None if kind is None else kind(targets_N, num_samples=shape[0] * shape[1])

    def of_epoch(self, stream: int, epoch: int) -> EpochMix | None:
        """Draw the mixing of an epoch; None if the mixing is off.

        Args:
            stream: Seed of the stage.
            epoch: Number of the epoch, from 0.
        """
        if not self.mixing.acts_in(epoch, self.epochs):
            return None
        steps, batch = self.shape
        uniforms_SBR = randomness.uniforms((*self.shape, self.mixing.num_uniforms), "mix", stream, epoch)
        if self.sampler is None:
            order_SB = None
            partners_SB = randomness.uniforms(self.shape, "mix-partners", stream, epoch).argsort(dim=1, stable=True)
        else:
            # a separate seed: with that of the stream, the sampler of the stage would pair every image with itself
            order_M = self.sampler.order(randomness.key("mix-partners", stream), epoch, epoch / self.epochs)
            order_SB = order_M[torch.arange(steps * batch) % len(order_M)].view(self.shape)
            partners_SB = torch.arange(batch, 2 * batch).expand(steps, batch)
        numbers_SBR = self.mixing.numbers(uniforms_SBR).to(self.device)
        return EpochMix(self.mixing, order_SB, partners_SB.to(self.device), numbers_SBR)
