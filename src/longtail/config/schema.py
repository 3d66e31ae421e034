"""Settings of a run as frozen dataclasses; an option of one component is declared in the signature of its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from longtail.component import Component
from longtail.config.ranges import OMIT_DEFAULT, check_ranges, ranged
from longtail.config.stage import Stage
from longtail.errors import InputError


@dataclass(frozen=True)
class DataConfig:
    """Data set and how it is read.

    Args:
        name: Name of a data set (`longtail list data`), or a path: a folder, a table, a list, or a CIFAR folder or
            archive.
        root: Folder with the files of a named data set. Default: `$LONGTAIL_DATA`, then `~/.cache/longtail`. For a
            table or a list, the folder that its paths are relative to. Default: its own folder.
        imbalance_factor: Images of the most frequent class over those of the least frequent one, in the long tail that
            is cut from a balanced set. None takes the data as they are.
        profile: Shape of that long tail.
        image_size: Side of the square image that the model sees, in pixels. None lets the data decide.
        storage: "resident" keeps all images as one tensor on the device, "stream" reads them from disk in every epoch,
            and "auto" is resident for images of up to 64 pixels.
        val_share: Share of each class of the training images that is held out for validation.
        test_per_class: Images per class that are held out for testing if the data have no test split. None chooses.
        on_bad_image: "fail" stops at an unreadable image, "skip" leaves it out and counts it.
        workers: Processes that read streamed images. None starts one per core, at most 8.
        seed: Seed of the held-out parts. Training does not depend on it.
        follow_links: Follow symbolic links that lead out of the root.
        include: Patterns of the image files to use, such as "*_rgb.png". None uses all.
        exclude: Patterns of the files and folders to leave out, such as "*_mask.png" or "thumbs".
        path_column: Column of a table with the paths. Default: "path" or a usual synonym.
        label_column: Column of a table with the labels. Default: "label" or a usual synonym.
        max_pixels: Largest number of pixels of an image file. None takes the limit of Pillow, about 179 million.
    """

    name: str = "digits-lt"
    root: str | None = None
    imbalance_factor: float | None = ranged(None, at_least=1)
    profile: Literal["exp", "step", "pareto"] = "exp"
    image_size: int | None = ranged(None, at_least=1)
    storage: Literal["auto", "resident", "stream"] = "auto"
    val_share: float = ranged(0.0, at_least=0, below=1)
    test_per_class: int | None = ranged(None, at_least=1)
    on_bad_image: Literal["fail", "skip"] = "fail"
    workers: int | None = ranged(None, at_least=0)
    seed: int = ranged(0, at_least=0)
    # these were added later: a configuration without them keeps its mapping, and so its digest
    follow_links: bool = field(default=False, metadata=OMIT_DEFAULT)
    include: tuple[str, ...] | None = field(default=None, metadata=OMIT_DEFAULT)
    exclude: tuple[str, ...] | None = field(default=None, metadata=OMIT_DEFAULT)
    path_column: str | None = field(default=None, metadata=OMIT_DEFAULT)
    label_column: str | None = field(default=None, metadata=OMIT_DEFAULT)
    max_pixels: int | None = ranged(None, at_least=1, omit_default=True)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def shown_as(self) -> str:
        """Name for people: the last part of a path."""
        return self.name.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True)
class ModelConfig:
    """Model: a backbone from image to embedding and a head from embedding to logits.

    Args:
        backbone: Backbone (`longtail list backbones`) with its options, or the name of a torchvision classification
            model.
        head: Head with its options.
        pretrained: Start from weights that were trained on ImageNet.
        normalize: Statistics that normalize the pixels: of the training "data", or the fixed "cifar10" or "imagenet".
    """

    backbone: Component = field(default_factory=lambda: Component("small_net"))
    head: Component = field(default_factory=lambda: Component("LinearHead"))
    pretrained: bool = False
    normalize: Literal["data", "cifar10", "imagenet"] = "data"


@dataclass(frozen=True)
class OptimizerConfig:
    """Stochastic gradient descent.

    Args:
        lr: Peak learning rate.
        momentum: Momentum factor.
        weight_decay: L2 penalty on every parameter, as in the source papers.
        nesterov: Use Nesterov momentum.
    """

    lr: float = ranged(0.1, above=0)
    momentum: float = ranged(0.9, at_least=0, below=1)
    weight_decay: float = ranged(2e-4, at_least=0)
    nesterov: bool = False

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
            it in every step.
    """

    kind: Literal["constant", "multistep", "cosine"] = "cosine"
    warmup: float = ranged(0.0, at_least=0, below=1)
    warmup_start: float = ranged(0.0, at_least=0, at_most=1)
    milestones: tuple[float, ...] = ranged((), at_least=0, at_most=1)
    gamma: float = ranged(0.1, above=0)
    per: Literal["step", "epoch"] = "step"

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
        precision: Precision of the forward pass: "fp32", or autocast to "bf16" or "fp16" (with loss scaling).
        channels_last: Use the channels-last memory layout for convolutions.
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
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
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


@dataclass(frozen=True)
class Config:
    """Configuration of a run: the `config.yaml` of a run holds it and runs it again.

    Args:
        data: Data set.
        model: Model.
        stages: Stages, in order.
        method: Name of the method that the stages make up.
        recipe: Name of the training recipe. Results of different recipes never share a column.
        seed: Seed of initialization, order and augmentation.
        protocol: "honest" evaluates the last checkpoint. "paper" keeps the epoch that is best on the *test* split, as
            most published code does, and marks every result with it.
        many: A class with more training images is "many-shot".
        few: A class with fewer training images is "few-shot".
        groups: "fixed" uses `many` and `few`, "quantile" takes thirds of the classes.
        device: Device name; "auto" takes an accelerator if there is one.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[Stage, ...] = ()
    method: str = "custom"
    recipe: str = "custom"
    seed: int = ranged(0, at_least=0)
    protocol: Literal["honest", "paper"] = "honest"
    many: int = ranged(100, at_least=0)
    few: int = ranged(20, at_least=0)
    groups: Literal["fixed", "quantile"] = "fixed"
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.groups == "fixed" and self.few > self.many:
            raise InputError(f"`few` must not exceed `many`, got few={self.few} and many={self.many}")
