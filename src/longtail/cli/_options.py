"""Options that several commands share: each group is a dataclass, declared once.

The docstring of a dataclass is the help of its options. An option that is not given is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import CoercionError, Parameter, Token

from longtail._numbers import parse_integer, parse_number
from longtail.errors import InputError

T = TypeVar("T")


class Switch(Enum):
    """A value of an option that takes `true` or `false`."""

    TRUE = True
    FALSE = False


def _integer(kind: object, tokens: Sequence[Token]) -> int:
    return parse_integer(tokens[0].value)  # refuses 1.5, which cyclopts would round


def _number(kind: object, tokens: Sequence[Token]) -> float:
    return parse_number(tokens[0].value)


def _integers(kind: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    return tuple(_each(_integer, token) for token in tokens)


def _numbers(kind: object, tokens: Sequence[Token]) -> tuple[float, ...]:
    return tuple(_each(_number, token) for token in tokens)


def _each(convert: Callable[[object, Sequence[Token]], T], token: Token) -> T:
    """Convert one value of a list, so that an error names this value and not the first one."""
    try:
        return convert(None, [token])
    except ValueError as error:
        raise CoercionError(token=token) from error


def _switch(kind: object, tokens: Sequence[Token]) -> Switch:
    words = {"true": Switch.TRUE, "yes": Switch.TRUE, "on": Switch.TRUE}
    words |= {"false": Switch.FALSE, "no": Switch.FALSE, "off": Switch.FALSE}
    try:
        return words[tokens[0].value.lower()]
    except KeyError as error:
        raise ValueError from error


Name = Annotated[str | None, Parameter(metavar="NAME")]
Integer = Annotated[int | None, Parameter(metavar="N", converter=_integer)]
DefiniteInteger = Annotated[int, Parameter(metavar="N", converter=_integer)]
Number = Annotated[float | None, Parameter(metavar="X", converter=_number)]
Threads = Annotated[int | None, Parameter(metavar="N", converter=_integer, name="--threads")]
Integers = Annotated[tuple[int, ...], Parameter(metavar="N", converter=_integers)]
Numbers = Annotated[tuple[float, ...], Parameter(metavar="X", converter=_numbers)]
Boolean = Annotated[Switch | None, Parameter(converter=_switch)]
Device = Annotated[str, Parameter(metavar="DEVICE")]
File = Annotated[Path | None, Parameter(metavar="FILE")]
Folder = Annotated[Path | None, Parameter(metavar="FOLDER")]
CommandLine = Annotated[str, Parameter(parse=False)]
"""The command line as typed, which results record."""


@Parameter(name="*", group="Data")
@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Fields of the data configuration.

    Args:
        root: Folder of the files of a named data set. Default: $LONGTAIL_DATA.
        imbalance_factor: Cut the training images to a long tail: images of the most frequent class over those of the
            least frequent one.
        image_size: Side of the square images that the network sees, in pixels.
        val_share: Share of the training images used as a validation split.
        on_bad_image: Stop at an unreadable image, or skip it. Default: fail.
        workers: Processes that read images from disk. Default: one per core.
        follow_links: Follow symbolic links that lead out of the folder of the data.
        include: Use only the image files that match a pattern, such as *_rgb.png.
        exclude: Leave out the files and folders that match a pattern, such as *_mask.png.
        path_column: Column of a table with the paths. Default: path or a synonym.
        label_column: Column of a table with the labels. Default: label or a synonym.
        max_pixels: Largest number of pixels of an image file. Default: that of Pillow, about 179 million.
        test: Folder, table or list whose images are the test split.
        resize: Fit an image to the square by the central square (crop), by resizing both sides (squash), or by filling
            up the shorter side (pad). Default: auto, which squashes if a crop would leave out more than 4 %.
        group: Column of a table, or rule, of the images that no held-out split may separate: folder, name (bursts),
            similar, auto (default: all that is found), or none.
        folds: Cross-validation with N models in place of a test split, for small data or tiny classes.
        empty_classes: Refuse a class without training images (fail, the default), keep its output, or drop the class.
        cache: Folder for reduced copies of large images; off reads the images themselves. Default (auto):
            $LONGTAIL_CACHE/images, else ~/.cache/longtail/images.
    """

    root: Annotated[str | None, Parameter(metavar="FOLDER")] = None
    imbalance_factor: Number = None
    image_size: Integer = None
    val_share: Number = None
    on_bad_image: Literal["fail", "skip"] | None = None
    workers: Integer = None
    follow_links: bool | None = None
    include: Annotated[tuple[str, ...] | None, Parameter(metavar="PATTERN")] = None
    exclude: Annotated[tuple[str, ...] | None, Parameter(metavar="PATTERN")] = None
    path_column: Name = None
    label_column: Name = None
    max_pixels: Integer = None
    test: Annotated[str | None, Parameter(metavar="PATH")] = None
    resize: Literal["auto", "crop", "squash", "pad"] | None = None
    group: Annotated[str | None, Parameter(metavar="COLUMN")] = None
    folds: Integer = None
    empty_classes: Literal["fail", "keep", "drop"] | None = None
    cache: Annotated[str | None, Parameter(metavar="auto|off|FOLDER")] = None


@Parameter(name="*", group="Evaluation")
@dataclass(frozen=True, kw_only=True)
class GroupOptions:
    """Thresholds of the many-, medium- and few-shot groups of classes.

    Args:
        many: Many-shot classes have more training images than this. Default: 100.
        few: Few-shot classes have fewer training images than this. Default: 20.
        groups: Group by these thresholds (fixed, the default) or into thirds of the classes (quantile).
    """

    many: Integer = None
    few: Integer = None
    groups: Literal["fixed", "quantile"] | None = None


@Parameter(name="*", group="Model and training")
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Model and training settings that replace those of the recipe.

    Args:
        backbone: Backbone (longtail list backbones): a name of this package, torchvision or timm (resnet50, timm/NAME,
            hf-hub:ORG/NAME, local-dir:FOLDER), or of transformers (hf/ORG/NAME, hf/FOLDER).
        pretrained: Start from pretrained weights (true) or from scratch (false).
        weights: File with weights of the backbone: safetensors or a state dict.
        loss: Loss of the training stages (longtail list losses).
        epochs: Number of epochs. The schedule keeps its shape.
        batch_size: Images per step.
        lr: Peak learning rate.
        precision: Precision of the forward pass. Default: that of the recipe; auto is bf16 on devices that compute it.
        device: Device: cpu, cuda, cuda:1, ... Default: an accelerator if available.
        engine: Way to run the steps: recorded as a CUDA graph (captured), compiled, or eager. Default: auto.
    """

    backbone: Name = None
    pretrained: Boolean = None
    weights: Annotated[str | None, Parameter(metavar="FILE")] = None
    loss: Name = None
    epochs: Integer = None
    batch_size: Integer = None
    lr: Number = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None
    device: Annotated[str | None, Parameter(metavar="DEVICE")] = None
    engine: Literal["auto", "eager", "compiled", "captured", "captured+compiled"] | None = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Everything that defines the configuration of a run, apart from the positional data set.

    Args:
        data: Same as the positional argument.
        features: File of features to use as data. Only a head is trained.
        method: Method (longtail list methods). Default: the one that inspect recommends.
        recipe: Training recipe (longtail list recipes). Default: that of the data set.
        seed: Seed of initialization, order and augmentation. Default: 0.
        image: Options of the data set.
        training: Options of the model and the training.
        protocol: Evaluate the last checkpoint (honest, the default), or the epoch with the best test score (paper).
        groups: Options of the groups of classes.
        config: YAML files, merged over the recipes in this order.
        settings: Any setting, by its path in `longtail show`. Stages count from 0.
    """

    data: Name = None
    features: Annotated[str | None, Parameter(metavar="FILE")] = None
    method: Name = None
    recipe: Name = None
    seed: Integer = None
    image: DataOptions = DataOptions()
    training: TrainingOptions = TrainingOptions()
    protocol: Annotated[Literal["honest", "paper"] | None, Parameter(group="Evaluation")] = None
    groups: GroupOptions = GroupOptions()
    config: Annotated[tuple[Path, ...], Parameter(group="Configuration", metavar="FILE")] = ()
    settings: Annotated[tuple[str, ...], Parameter(name="--set", group="Configuration", metavar="KEY=VALUE")] = ()

    def data_set(self, positional: str | None) -> str | None:
        """Return the data set given by position, with --data or with --features; None if none is given.

        Args:
            positional: Positional argument.

        Raises:
            InputError: If two are given, or the file of features does not exist or is of another type.
        """
        options = {"": positional, "--data ": self.data, "--features ": self.features}
        given = {name: f"{option}{name}" for option, name in options.items() if name}
        if len(given) > 1:
            raise InputError(f"two data sets are given: {' and '.join(given.values())}; give one")
        if self.features and Path(self.features).suffix.lower() not in (".npz", ".safetensors", ".parquet"):
            raise InputError(f"`--features` must be an NPZ, safetensors or Parquet file, got {self.features}")
        if self.features and not Path(self.features).expanduser().is_file():
            raise InputError(f"there is no file {self.features}; write it with `longtail features RUN`")
        return next(iter(given), None)

    def changes(self) -> dict[str, Any]:
        """Return the given options as a mapping to merge over the recipes."""
        from longtail.run.resolve import changes_from

        options = {**given_of(self.image), **given_of(self.training), **given_of(self.groups)}
        settings = [read_setting(text) for text in self.settings]
        return changes_from({**options, "seed": self.seed, "protocol": self.protocol, "set": settings})


def given_of(options: Any) -> dict[str, Any]:
    """Return the options of a group that were given, by name.

    Args:
        options: Dataclass of options.

    Example:
        >>> given_of(GroupOptions(many=50))
        {'many': 50}
    """
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {
        key: value.value if isinstance(value, Switch) else value for key, value in values.items() if value is not None
    }


def read_setting(text: str) -> tuple[str, Any]:
    """Return a value of `--set` as a dotted path and a value.

    Args:
        text: KEY=VALUE, with the value in YAML.

    Raises:
        InputError: If the text does not have this form, or the value is not valid YAML.

    Example:
        >>> read_setting("stages.0.training.clip_norm=1.5")
        ('stages.0.training.clip_norm', 1.5)
    """
    import yaml

    from longtail.config.convert import read_yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"`--set` must be KEY=VALUE, such as stages.0.training.clip_norm=1, got {text!r}")
    try:
        return key, read_yaml(value)
    except yaml.YAMLError as error:
        raise InputError(f"cannot read the value of {key}, {value!r}: {getattr(error, 'problem', error)}") from error
