"""Arguments that several commands share, and what they change in a configuration."""

from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace

from longtail.arguments.parser import Parser
from longtail.config.convert import read_yaml
from longtail.errors import InputError


def add_data_arguments(parser: Parser, default: str = "digits-lt") -> None:
    """The data set and how it is read; `data_changes` reads them. `default` says which one, where none is given."""
    parser.add_argument("data", nargs="?", help=f"a data name (longtail list data) or a path; default: {default}")
    group = parser.add_argument_group("data")
    group.add_argument("--root", type=str, help="where the files of a named data set lie; default: $LONGTAIL_DATA")
    group.add_argument("--imbalance-factor", type=float, help="cut a long tail: fullest over emptiest class")
    group.add_argument("--image-size", type=int, help="side of the square the net sees, in pixels")
    group.add_argument("--val-share", type=float, help="share of the training images held out for choices")
    group.add_argument("--on-bad-image", type=Literal["fail", "skip"], help="at an unreadable image; default: fail")
    group.add_argument("--workers", type=int, help="processes that read images from disk; default: one per core")


def add_run_arguments(parser: Parser) -> None:
    """Everything that makes a run's configuration; `data_name` and `changes` read them."""
    add_data_arguments(parser)
    parser.add_argument("--data", dest="data_option", type=str, help="the same as the positional argument")
    parser.add_argument("--features", type=str, help="file of features, as data: trains a head alone")
    parser.add_argument(
        "--method", type=str, help="what to do (longtail list methods); default: what inspect recommends"
    )
    parser.add_argument("--recipe", type=str, help="training settings (longtail list recipes); default: the data's own")
    parser.add_argument("--seed", type=int, help="of initialisation, order and augmentation; default: 0")
    group = parser.add_argument_group("model and training")
    group.add_argument("--backbone", type=str, help="longtail list backbones, or any torchvision classification net")
    group.add_argument("--pretrained", type=bool, help="true: start from ImageNet weights; false: from scratch")
    group.add_argument("--loss", type=str, help="another loss in the training stages (longtail list losses)")
    group.add_argument("--epochs", type=int, help="the schedule keeps its shape")
    group.add_argument("--batch-size", type=int, help="images per step")
    group.add_argument("--lr", type=float, help="peak learning rate")
    group.add_argument("--precision", type=Literal["fp32", "bf16", "fp16"], help="of the forward pass; default: fp32")
    group.add_argument("--device", type=str, help="cpu, cuda, cuda:1, ...; default: an accelerator where there is one")
    _add_judging_arguments(parser)


def _add_judging_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("judging")
    group.add_argument(
        "--protocol",
        type=Literal["honest", "paper"],
        help="honest: score the last checkpoint (default); paper: keep the epoch that is best on the test set",
    )
    add_group_arguments(group)
    group = parser.add_argument_group("configuration")
    group.add_argument(
        "--config", type=Path, nargs="+", default=[], help="YAML files, merged over the recipes in order"
    )
    group.add_argument(
        "--set",
        type=str,
        nargs="+",
        default=[],
        help="any setting: KEY=VALUE, by its path in `longtail show`; stages count from 0",
    )


def add_group_arguments(group: Any) -> None:
    """How classes are grouped into many-, medium- and few-shot; `groups` reads them."""
    group.add_argument("--many", type=int, help="many-shot: more training images than this; default: 100")
    group.add_argument("--few", type=int, help="few-shot: fewer training images than this; default: 20")
    group.add_argument("--groups", type=Literal["fixed", "quantile"], help="quantile: thirds of the classes instead")


def data_name(given: Namespace) -> str | None:
    """The data set, given by position, by --data or by --features; None where none is."""
    names = {"": given.data, "--data ": given.data_option, "--features ": given.features}
    said = {name: f"{option}{name}" for option, name in names.items() if name}
    if len(said) > 1:
        raise InputError(f"two data sets are given: {' and '.join(said.values())}; give one")
    if given.features and Path(given.features).suffix.lower() not in (".npz", ".parquet"):
        raise InputError(f"--features takes an NPZ file or a Parquet table, not {given.features}")
    if given.features and not Path(given.features).expanduser().is_file():
        raise InputError(f"there are no features at {given.features}; `longtail features RUN` writes such a file")
    return next(iter(said), None)


def groups(given: Namespace) -> dict[str, Any]:
    """The flags of `add_group_arguments` that were given."""
    return given_of(given, "many", "few", "groups")


def data_changes(given: Namespace) -> dict[str, Any]:
    """The flags of `add_data_arguments` that were given, as fields of `DataConfig`."""
    return given_of(given, "root", "imbalance_factor", "image_size", "val_share", "on_bad_image", "workers")


def changes(given: Namespace) -> dict[str, Any]:
    """The flags of `add_run_arguments` as a mapping to merge over the recipes."""
    training = given_of(given, "epochs", "batch_size", "precision")
    if given.lr is not None:
        training["optimizer"] = {"lr": given.lr}
    model = given_of(given, "backbone", "pretrained")
    nested = {"data": data_changes(given), "model": model, "training": training, "loss": given.loss}
    flat = given_of(given, "seed", "device", "protocol", "many", "few", "groups")
    merged = flat | {key: value for key, value in nested.items() if value}
    if given.set:
        merged["set"] = [setting(text) for text in given.set]
    return merged


def given_of(given: Namespace, *keys: str) -> dict[str, Any]:
    """Those of the flags that were given, by name."""
    return {key: given[key] for key in keys if given[key] is not None}


def setting(text: str) -> tuple[str, Any]:
    """A --set argument as a dotted path and a value.

    Raises:
        InputError: if it is not of the form KEY=VALUE, or the value is no YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes KEY=VALUE (stages.0.training.clip_norm=1, say), not {text!r}")
    try:
        return key, read_yaml(value)
    except yaml.YAMLError as error:
        raise InputError(f"can not read the value of {key}, {value!r}: {getattr(error, 'problem', error)}") from error
