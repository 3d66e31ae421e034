"""Settings of a run as frozen dataclasses; an option of one component is declared in the signature of its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from longtail.component import Component
from longtail.errors import InputError


@dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are read.

    Args:
        name: a data name (`longtail list`), or a path: a folder, a table, a list, a CIFAR folder or archive.
        root: where the files of a named set lie; by default $LONGTAIL_DATA, then ~/.cache/longtail. For a table or a
            list, the folder its paths start from; by default its own.
        imbalance_factor: of the long tail cut from a balanced set; None takes the data as they are.
        profile: of that long tail.
        image_size: side of the square that the net sees, in pixels; None lets the data decide.
        storage: "resident" keeps all images as one tensor on the device, "stream" reads them from disk in every epoch;
            "auto" is resident for images of up to 64 pixels.
        val_share: share of each class of the training images held out for choices.
        test_per_class: images per class held out for the test where the data bring no test part; None chooses.
        on_bad_image: "fail" stops at an unreadable image, "skip" leaves it out and counts it.
        workers: processes that read streamed images; None takes one per core, at most 8.
        seed: of what is held out (never of training).
    """

    name: str = "digits-lt"
    root: str | None = None
    imbalance_factor: float | None = None
    profile: Literal["exp", "step", "pareto"] = "exp"
    image_size: int | None = None
    storage: Literal["auto", "resident", "stream"] = "auto"
    val_share: float = 0.0
    test_per_class: int | None = None
    on_bad_image: Literal["fail", "skip"] = "fail"
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise InputError(f"--workers must be 0 or more, not {self.workers}")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"--image-size must be at least 1 pixel, not {self.image_size}")

    @property
    def shown_as(self) -> str:
        """The name for people: of a path, its last part."""
        return self.name.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class ModelConfig:
    """The net: a backbone from image to embedding, a head from embedding to logits.

    Args:
        backbone: name of a backbone (`longtail list`) with its options, or of a torchvision classification model.
        head: from the embedding to the logits.
        pretrained: start from weights trained on ImageNet.
        normalize: what centres the pixels: statistics of the training "data", or the fixed "cifar10" or "imagenet".
    """

    backbone: Component = field(default_factory=lambda: Component("small_net"))
    head: Component = field(default_factory=lambda: Component("LinearHead"))
    pretrained: bool = False
    normalize: Literal["data", "cifar10", "imagenet"] = "data"


@dataclass(frozen=True)
class OptimizerConfig:
    """Stochastic gradient descent.

    Args:
        lr: peak learning rate.
        momentum: of the velocity.
        weight_decay: L2 penalty, on every parameter as in the source papers.
        nesterov: look ahead along the velocity.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    nesterov: bool = False


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate over a stage. Times are shares of the stage, so that a shorter run keeps the shape.

    Args:
        kind: "constant", "multistep" or "cosine" (to zero).
        warmup: share of the stage over which the rate rises linearly.
        warmup_start: share of the peak rate at which the warm-up begins.
        milestones: shares of the stage at which "multistep" multiplies the rate by `gamma`.
        gamma: factor at each milestone.
        per: "epoch" holds the rate within an epoch (as the authors' schedulers do), "step" moves it with each step.
    """

    kind: Literal["constant", "multistep", "cosine"] = "cosine"
    warmup: float = 0.0
    warmup_start: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    per: Literal["step", "epoch"] = "step"


@dataclass(frozen=True)
class TrainingConfig:
    """How a stage trains, whatever its loss.

    Args:
        epochs: passes over the sampler's stream.
        iterations: length in steps instead, for recipes that are published so; rounded up to whole epochs.
        epoch_unit: images that count as an epoch, where `epochs` is not meant in passes over the training images:
            50,000 reads it in epochs of the whole CIFAR, from which a long tail was cut.
        batch_size: images per step (over all ranks).
        augment: name of an augmentation policy (`longtail list`).
        optimizer: its settings.
        schedule: of the learning rate.
        precision: of the forward pass: "fp32", or autocast to "bf16" or "fp16" (with loss scaling).
        channels_last: memory layout of the convolutions.
        clip_norm: largest norm of the gradient; None does not clip.
        ema: decay of an average of the weights, which is then what is scored; None keeps none.
        deterministic: the same run gives the same bits; switch off for a little speed on a GPU.
    """

    epochs: int = 30
    iterations: int | None = None
    epoch_unit: int | None = None
    batch_size: int = 128
    augment: str = "none"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    clip_norm: float | None = None
    ema: float | None = None
    deterministic: bool = True

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise InputError(f"epochs and batch_size must be at least 1, not {self.epochs} and {self.batch_size}")
        if self.optimizer.lr <= 0:
            raise InputError(f"the learning rate must be positive, not {self.optimizer.lr}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"ema must lie between 0 and 1 (0.999, say), not {self.ema}")
        if self.iterations is not None and self.iterations < 1:
            raise InputError(f"iterations must be at least 1, not {self.iterations}")
        if self.epoch_unit is not None and self.epoch_unit < 1:
            raise InputError(f"epoch_unit must be at least 1 image (50000 for CIFAR's epochs), not {self.epoch_unit}")

    def in_epochs(self, steps_per_epoch: int) -> TrainingConfig:
        """The same settings with the length in epochs.

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


@dataclass(frozen=True)
class Config:
    """A whole run: `config.yaml` of a finished run is this, and runs again.

    Args:
        data: which images.
        model: the net.
        stages: what is done, in order; each names a class of `longtail.stages` and its options.
        method: name of the method the stages make up.
        recipe: name of the training recipe; results of different recipes never share a column.
        seed: of initialisation, order and augmentation.
        protocol: "honest" scores the last checkpoint; "paper" keeps the epoch that is best on the *test* set, as most
            published code does, and marks every result with it.
        many: a class with more training images is "many-shot".
        few: a class with fewer training images is "few-shot".
        groups: "fixed" uses `many` and `few`; "quantile" takes thirds of the classes.
        device: "auto" takes an accelerator where there is one.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[Component, ...] = ()
    method: str = "custom"
    recipe: str = "custom"
    seed: int = 0
    protocol: Literal["honest", "paper"] = "honest"
    many: int = 100
    few: int = 20
    groups: Literal["fixed", "quantile"] = "fixed"
    device: str = "auto"
