"""Settings of a run as frozen dataclasses; an option of one component is declared in the signature of its class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from longtail.component import Component
from longtail.config.stage import Stage
from longtail.config.training import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.errors import InputError
from longtail.ranges import OMIT_DEFAULT, check_ranges, ranged

Engine = Literal["auto", "eager", "compiled", "captured", "captured+compiled"]

__all__ = ["Config", "DataConfig", "ModelConfig", "OptimizerConfig", "ScheduleConfig", "TrainingConfig"]


@dataclass(frozen=True)
class DataConfig:
    """Data set and how it is read.

    Args:
        name: Name of a data set (`longtail list data`), or a path: a folder, a table, a list, or a CIFAR folder or
            archive.
        root: Folder with the files of a named data set. Default: `$LONGTAIL_DATA`, then `~/.cache/longtail`. For a
            table or a list, the folder that its paths are relative to. Default: its own folder.
        imbalance_factor: Images of the most frequent class over those of the least frequent one, in the long tail that
            is cut from a balanced set. None takes the data as they are. Rounding the counts changes the factor a
            little; it refers to the images before the validation split is held out.
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
        test: Path of a folder, a table or a list whose images are the test split. The training data then keep all
            their images.
        empty_classes: "fail" refuses a class without training images, which is mostly an incomplete copy. "keep" keeps
            its output of the model. "drop" removes the class from the model and from the other splits.
        cache: Folder for reduced copies of streamed images that are more than twice as large as needed. "auto" is
            `$LONGTAIL_CACHE/images`, by default `~/.cache/longtail/images`. "off" reads the images themselves.
        resize: Way to fit an image to the square. "crop" takes the central square, "squash" resizes both sides, "pad"
            fills the shorter side up. "auto" squashes if a crop would leave out more than 4 % of the area.
        group: Images that no held-out split may separate: a column of the table; "folder", those of a folder below the
            class folder; "name", bursts such as IMG_0001_003.jpg; "similar", near-duplicates; "auto", all of these
            that are found; "none".
        folds: Number of parts for cross-validation, if the data have no test split. Each part is the test split of one
            run, which trains on the others.
        fold: Part that is the test split, from 0. None stands for all of them: no run of its own.
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
    test: str | None = field(default=None, metadata=OMIT_DEFAULT)
    empty_classes: Literal["fail", "keep", "drop"] = field(default="fail", metadata=OMIT_DEFAULT)
    cache: str = field(default="auto", metadata={**OMIT_DEFAULT, "off": True})
    resize: Literal["auto", "crop", "squash", "pad"] = field(default="crop", metadata=OMIT_DEFAULT)
    group: str = field(default="none", metadata=OMIT_DEFAULT)
    folds: int | None = ranged(None, at_least=2, omit_default=True)
    fold: int | None = ranged(None, at_least=0, omit_default=True)

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
        pretrained: Start from the weights that the library of the backbone offers, mostly trained on ImageNet.
        normalize: Statistics that normalize the pixels: of the training "data", or the fixed "cifar10" or "imagenet".
            Pretrained weights of timm and transformers state their own statistics, which replace these.
        weights: File with weights of the backbone, safetensors or a state dict. It replaces `pretrained`.
    """

    backbone: Component = field(default_factory=lambda: Component("small_net"))
    head: Component = field(default_factory=lambda: Component("LinearHead"))
    pretrained: bool = False
    normalize: Literal["data", "cifar10", "imagenet"] = "data"
    weights: str | None = field(default=None, metadata=OMIT_DEFAULT)


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
        engine: Way to run the training steps. "captured" records the whole step as one CUDA graph, "compiled" compiles
            forward pass and loss, "captured+compiled" does both. "auto" captures where the device can.
        checkpoint_seconds: Seconds between two checkpoints within a stage. 0 writes one after each epoch.
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
    engine: Engine = field(default="auto", metadata=OMIT_DEFAULT)
    checkpoint_seconds: float = ranged(60.0, at_least=0, omit_default=True)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.groups == "fixed" and self.few > self.many:
            raise InputError(f"`few` must not exceed `many`, got few={self.few} and many={self.many}")
