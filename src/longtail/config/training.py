"""Training settings of a stage: length, batch, augmentation, optimizer, schedule and precision."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from longtail.errors import InputError
from longtail.ranges import OMIT_DEFAULT, check_ranges, ranged


@dataclass(frozen=True)
class OptimizerConfig:
    """Stochastic gradient descent, or AdamW.

    Args:
        lr: Peak learning rate.
        momentum: Momentum factor of SGD.
        weight_decay: L2 penalty on every parameter, as in the source papers; for AdamW, the decoupled weight decay.
        nesterov: Use Nesterov momentum with SGD.
        kind: "sgd" or "adamw".
        beta1: Decay of AdamW's average of the gradients.
        beta2: Decay of AdamW's average of the squared gradients.
        eps: Number that AdamW adds to the denominator.
        decay_norms_and_biases: Apply the weight decay to biases, normalization layers and position embeddings too.
        layer_decay: Factor of the learning rate from one layer of the backbone to the one before it. None gives all
            layers the same learning rate.
        head_lr: Factor of the learning rate for the head.
        unfreeze: Share of the stage after which the first layer of the backbone learns. The layers start to learn one
            after another, the last one first, at the start of an epoch. 0 trains all layers from the start.
    """

    lr: float = ranged(0.1, above=0)
    momentum: float = ranged(0.9, at_least=0, below=1)
    weight_decay: float = ranged(2e-4, at_least=0)
    nesterov: bool = False
    # these were added later: a configuration without them keeps its mapping, and so its digest
    kind: Literal["sgd", "adamw"] = field(default="sgd", metadata=OMIT_DEFAULT)
    beta1: float = ranged(0.9, at_least=0, below=1, omit_default=True)
    beta2: float = ranged(0.999, at_least=0, below=1, omit_default=True)
    eps: float = ranged(1e-8, above=0, omit_default=True)
    decay_norms_and_biases: bool = field(default=True, metadata=OMIT_DEFAULT)
    layer_decay: float | None = ranged(None, above=0, at_most=1, omit_default=True)
    head_lr: float = ranged(1.0, above=0, omit_default=True)
    unfreeze: float = ranged(0.0, at_least=0, below=1, omit_default=True)

    @property
    def needs_groups(self) -> bool:
        """Whether parameters differ in learning rate or weight decay."""
        return not self.decay_norms_and_biases or self.layer_decay is not None or self.head_lr != 1 or self.unfreeze > 0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.nesterov and self.momentum == 0:
            raise InputError("`nesterov` requires `momentum` > 0, got 0.0; set `nesterov` to false or raise `momentum`")


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over a stage. Times are shares of the stage, so that a shorter run keeps the shape.

    Args:
        kind: "constant", "multistep" or "cosine" (to zero).
        warmup: Share of the stage over which the learning rate rises linearly.
        warmup_start: Share of the peak learning rate at the start of the warm-up.
        milestones: Shares of the stage at which "multistep" multiplies the learning rate by `gamma`.
        gamma: Factor at each milestone.
        per: "epoch" keeps the learning rate constant within an epoch (as the authors' schedulers do), "step" updates
            it in every step. "next-epoch" is "epoch" one epoch ahead, for code that steps its scheduler before the
            first epoch: a cosine then trains its last epoch at learning rate 0.
    """

    kind: Literal["constant", "multistep", "cosine"] = "cosine"
    warmup: float = ranged(0.0, at_least=0, below=1)
    warmup_start: float = ranged(0.0, at_least=0, at_most=1)
    milestones: tuple[float, ...] = ranged((), at_least=0, at_most=1)
    gamma: float = ranged(0.1, above=0)
    per: Literal["step", "epoch", "next-epoch"] = "step"

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class TrainingConfig:
    """Training settings of a stage, whatever its loss.

    Args:
        epochs: Passes over the sampler's stream.
        iterations: Length in steps instead, for recipes that are published so; rounded up to whole epochs.
        epoch_unit: Images that count as one epoch, if `epochs` does not mean passes over the training images. 50,000
            counts epochs of the full CIFAR training set, from which a long tail was cut.
        batch_size: Images per step, over all ranks.
        augment: Augmentation policy (`longtail list augmentations`).
        optimizer: Optimizer settings.
        schedule: Learning rate schedule.
        precision: Precision of the forward pass: "fp32", or autocast to "bf16" or "fp16" (with loss scaling). "auto" is
            bf16 where the device computes it natively, else fp32, and fp32 for a head on features.
        channels_last: Use the channels-last memory layout for convolutions. None uses it where it is faster: for
            convolutional backbones on a GPU or an x86 CPU.
        clip_norm: Largest norm of the gradient. None does not clip.
        ema: Decay of an exponential moving average of the weights, which is then evaluated. None keeps no average.
        deterministic: Use deterministic kernels, so that the same run gives the same bits. False is slightly faster on
            a GPU.
    """

    epochs: int = ranged(30, at_least=1)
    iterations: int | None = ranged(None, at_least=1)
    epoch_unit: int | None = ranged(None, at_least=1)
    batch_size: int = ranged(128, at_least=1)
    augment: str = "none"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | None = None
    clip_norm: float | None = ranged(None, above=0)
    ema: float | None = ranged(None, above=0, below=1)
    deterministic: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)

    def in_epochs(self, steps_per_epoch: int) -> TrainingConfig:
        """Return the same settings with the length in epochs.

        Example:
            >>> TrainingConfig(iterations=13_000).in_epochs(22).epochs
            591
            >>> TrainingConfig(epochs=256, epoch_unit=50_000).in_epochs(85).epochs
            1178
        """
        iterations = self.iterations
        if iterations is None and self.epoch_unit is not None:
            iterations = self.epochs * -(-self.epoch_unit // self.batch_size)
        if iterations is None:
            return self
        return dataclasses.replace(self, epochs=-(-iterations // steps_per_epoch), iterations=None, epoch_unit=None)

    @property
    def length(self) -> str:
        """Length in words, such as "13,000 steps" or "200 epochs of 50,000 images"."""
        if self.iterations is not None:
            return f"{self.iterations:,} step{'' if self.iterations == 1 else 's'}"
        unit = "" if self.epoch_unit is None else f" of {self.epoch_unit:,} images"
        return f"{self.epochs:,} epoch{'' if self.epochs == 1 else 's'}{unit}"
