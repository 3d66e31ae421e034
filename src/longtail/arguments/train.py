"""Arguments of `train` and `show`."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from longtail.arguments.common import add_run_arguments, changes, data_name
from longtail.arguments.parser import Command, Parser


def _train_arguments(parser: Parser) -> None:
    add_run_arguments(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, help="folder of the run; default: runs/DATA-METHOD-seedN")
    group.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")
    group.add_argument("--from", dest="start", type=Path, help="a finished run with the same first stages, taken over")
    group.add_argument("--against", type=str, nargs="+", default=[], help="train these methods too and compare")
    group.add_argument("--log", type=str, nargs="+", default=[], help="log to tensorboard, wandb")


def _train(given: Namespace, line: str) -> None:
    from longtail.commands.train import train

    places = {"folder": given.out, "start": given.start, "resume": given.resume}
    train(**_what(given), **places, against=given.against, loggers=given.log, command=line)


def _show(given: Namespace, line: str) -> None:
    from longtail.commands.train import show

    show(**_what(given))


def _what(given: Namespace) -> dict[str, Any]:
    """What to train: the arguments that make a configuration."""
    named = {"data": data_name(given), "method": given.method, "recipe": given.recipe}
    return {**named, "config": given.config, "changes": changes(given)}


TRAIN = Command(
    "train",
    "train, judge, report",
    "Train on a data set, judge on its test part, and write a report.",
    "train [DATA] [options]",
    """\
  longtail train photos/
  longtail train labels.csv --out runs/first --against ce
  longtail train cifar100-lt --imbalance-factor 100 --method balanced-softmax --epochs 24 --seed 1
  longtail train --resume --out runs/first
  longtail train --config runs/first/config.yaml --seed 2
  longtail train cifar100-lt --set stages.0.training.optimizer.weight_decay=5e-4""",
    _train_arguments,
    _train,
)

SHOW = Command(
    "show",
    "the resolved configuration of a run",
    "Print the resolved configuration of a run, as YAML.",
    "show [DATA] [options]",
    """\
  longtail show cifar100-lt --method balanced-softmax > mine.yaml
  longtail train --config mine.yaml""",
    add_run_arguments,
    _show,
)
