"""The command line: reads arguments, calls `longtail.commands`, turns errors into messages and exit codes.

0 done; 2 bad input, with a message; 1 our fault, with a traceback; 130 interrupted, the state saved.
"""

import difflib
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from longtail.errors import InputError
from longtail.version import __version__

COMMANDS = ("train", "evaluate", "predict", "report", "inspect", "list", "show", "data")
USAGE = {
    "": "longtail COMMAND ...",
    "train": "longtail train [DATA] [options]",
    "evaluate": "longtail evaluate RUN_OR_FILE [options]",
    "predict": "longtail predict RUN IMAGE [IMAGE ...] [options]",
    "report": "longtail report RUN_OR_FILE [options]",
    "inspect": "longtail inspect [DATA] [options]",
    "list": "longtail list [KIND]",
    "show": "longtail show [DATA] [options]",
    "data": "longtail data ACTION ...",
    "data get": "longtail data get NAME [--root ROOT]",
    "data export": "longtail data export [DATA] --target FOLDER [options]",
}
EXAMPLES = {
    "": """examples:
  longtail train                       the embedded example: uneven digits, in under a minute
  longtail train photos/               your own images, a folder per class
  longtail inspect photos/             how uneven are they, and what to do about it
  longtail list                        methods, data sets and everything they are made of""",
    "train": """examples:
  longtail train photos/
  longtail train labels.csv --out runs/first --against ce
  longtail train cifar100-lt --imbalance-factor 100 --method balanced-softmax --epochs 24 --seed 1
  longtail train --resume --out runs/first
  longtail train --config runs/first/config.yaml --seed 2
  longtail train cifar100-lt --set stages.0.training.optimizer.weight_decay=5e-4""",
    "evaluate": """examples:
  longtail evaluate runs/first
  longtail evaluate runs/first --test-prior backward-50
  longtail evaluate predictions.csv --counts counts.csv""",
    "predict": """examples:
  longtail predict runs/first new_photos/ --output answers.csv""",
    "report": """examples:
  longtail report runs/first
  longtail report predictions.npz --counts counts.csv --output page.html""",
    "inspect": """examples:
  longtail inspect photos/
  longtail inspect cifar100-lt --imbalance-factor 50 --json""",
    "list": """examples:
  longtail list
  longtail list methods""",
    "show": """examples:
  longtail show cifar100-lt --method balanced-softmax > mine.yaml
  longtail train --config mine.yaml""",
    "data": """examples:
  longtail data get cifar100
  longtail data export digits-lt --target digits_folder""",
}


class Parser(ArgumentParser):
    """An argument parser whose errors are short, and name the nearest option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message and exit with 2."""
        del ex
        command = self.prog.replace("[options] ", "").removesuffix(" ...")
        sys.stderr.write(f"longtail: {self._in_plain_words(message.strip())}\n{command} --help lists the options\n")
        raise SystemExit(2)

    def _in_plain_words(self, message: str) -> str:
        """What the parsers below say, without their vocabulary, and with the nearest option or command."""
        wrong = re.search(r'Parser key "(?P<key>\S+?)":.*Got value: (?P<value>.*)', message, flags=re.DOTALL)
        if wrong:
            option = next((a for a in self._actions if a.dest == wrong["key"].rpartition(".")[2]), None)
            name = option.option_strings[-1] if option and option.option_strings else wrong["key"]
            kind = re.search(r"Expected a (.*?)\. Got", message, flags=re.DOTALL)
            return f"{name} can not be {wrong['value'].strip()!r}; it takes {_kind_in_words(kind[1] if kind else '')}"
        if message.startswith('expected "command"'):
            return f"give one of {', '.join(COMMANDS)}"
        choice = re.search(r"argument COMMAND: invalid choice: '(?P<given>\S+)'", message)
        if choice:
            near = difflib.get_close_matches(choice["given"], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(COMMANDS)}"
            return f"there is no command {choice['given']!r}; {hint}"
        for word in (word.strip("'\",:") for word in message.split()):
            near = difflib.get_close_matches(word, [o for a in self._actions for o in a.option_strings], n=1)
            if word.startswith("--") and near and near[0] != word:
                return f"{message}; did you mean {near[0]}?"
        return message


def _kind_in_words(kind: str) -> str:
    """A type, as jsonargparse names it, for people."""
    if "Literal" in kind:
        return "one of " + ", ".join(re.findall(r"'(\w+)'", kind))
    return {"<class 'int'>": "a whole number", "<class 'float'>": "a number", "<class 'bool'>": "true or false"}.get(
        kind, "another kind of value"
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point of `longtail`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _dispatch(build_parser().parse_args(arguments), "longtail " + shlex.join(arguments))
    except InputError as error:
        sys.stderr.write(f"longtail: {error}\n")
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of our output has gone, as in `longtail list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        sys.stderr.write("longtail: interrupted\n")
        raise SystemExit(130) from None
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # named, not imported: the loop takes a second to import
            raise
        sys.stderr.write("longtail: stopped, the state is saved; go on with --resume and the same --out\n")
        raise SystemExit(130) from None
    raise SystemExit(0)


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = _parser("", "Train and judge image classifiers on data whose classes are unevenly filled.")
    parser.add_argument("--version", action="version", version=f"longtail {__version__}")
    commands = parser.add_subcommands(title="commands", dest="command", metavar="COMMAND")
    train = _parser("train", "Train on a data set, judge on its test part, and write a report.")
    _add_run_arguments(train)
    _add_train_arguments(train)
    commands.add_subcommand("train", train, help="train, judge, report")
    commands.add_subcommand("evaluate", _evaluate_parser(), help="score a run, or predictions of any tool")
    commands.add_subcommand("predict", _predict_parser(), help="classify images with a trained run")
    commands.add_subcommand("report", _report_parser(), help="write the HTML page of a run or of predictions")
    inspect = _parser("inspect", "Say what a data set holds, how uneven it is, and what to do about it.")
    _add_data_arguments(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON")
    commands.add_subcommand("inspect", inspect, help="how uneven is a data set, and what to do about it")
    listing = _parser("list", "List methods, data sets and everything they are made of.")
    listing.add_argument("kind", nargs="?", help="only one kind: methods, losses, samplers, data, ...")
    commands.add_subcommand("list", listing, help="methods, data sets, losses, samplers, ...")
    show = _parser("show", "Print the resolved configuration of a run, as YAML.")
    _add_run_arguments(show)
    commands.add_subcommand("show", show, help="the resolved configuration of a run")
    data = _parser("data", "Download a data set, or export one as a folder of PNGs.")
    commands.add_subcommand("data", data, help="download a data set, or export one as a folder")
    _add_data_actions(data)  # once its parent stands, or jsonargparse refuses
    return parser


def _parser(command: str, description: str) -> Parser:
    from argparse import RawDescriptionHelpFormatter

    return Parser(
        prog=f"longtail {command}".strip(),
        usage=USAGE[command],
        description=description,
        epilog=EXAMPLES.get(command),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_data_arguments(parser: Parser) -> None:
    parser.add_argument("data", nargs="?", help="a data name (longtail list data) or a path; default: digits-lt")
    group = parser.add_argument_group("data")
    group.add_argument("--root", type=str, help="where the files of a named data set lie; default: $LONGTAIL_DATA")
    group.add_argument("--imbalance-factor", type=float, help="cut a long tail: fullest over emptiest class")
    group.add_argument("--image-size", type=int, help="side of the square the net sees, in pixels")
    group.add_argument("--val-share", type=float, help="share of the training images held out for choices")
    group.add_argument("--on-bad-image", type=Literal["fail", "skip"], help="at an unreadable image; default: fail")
    group.add_argument("--workers", type=int, help="processes that read images from disk; default: one per core")


def _add_run_arguments(parser: Parser) -> None:
    _add_data_arguments(parser)
    parser.add_argument("--data", dest="data_option", type=str, help="the same as the positional argument")
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
    group = parser.add_argument_group("judging")
    group.add_argument(
        "--protocol",
        type=Literal["honest", "paper"],
        help="honest: score the last checkpoint (default); paper: keep the epoch that is best on the test set",
    )
    _add_group_arguments(group)
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


def _add_group_arguments(group: Any) -> None:
    group.add_argument("--many", type=int, help="many-shot: more training images than this; default: 100")
    group.add_argument("--few", type=int, help="few-shot: fewer training images than this; default: 20")
    group.add_argument("--groups", type=Literal["fixed", "quantile"], help="quantile: thirds of the classes instead")


def _add_train_arguments(parser: Parser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, help="folder of the run; default: runs/DATA-METHOD-seedN")
    group.add_argument("--resume", action="store_true", help="go on where the run in --out stopped")
    group.add_argument("--from", dest="start", type=Path, help="a finished run with the same first stages, taken over")
    group.add_argument("--against", type=str, nargs="+", default=[], help="train these methods too and compare")
    group.add_argument("--log", type=str, nargs="+", default=[], help="log to tensorboard, wandb")


def _evaluate_parser() -> Parser:
    parser = _parser("evaluate", "Score a run, or predictions that any tool wrote (CSV or NPZ).")
    parser.add_argument("target", type=Path, help="a run's folder, or a CSV or NPZ of predictions")
    parser.add_argument(
        "--counts", type=str, help="file with the training images per class, where predictions lack them"
    )
    parser.add_argument(
        "--test-prior", type=str, help="score as if classes were so frequent: uniform, train, forward-50"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, per class too")
    _add_group_arguments(parser)
    return parser


def _predict_parser() -> Parser:
    parser = _parser("predict", "Classify images with a trained run; writes path, class, probability and the top five.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("images", type=Path, nargs="+", help="images, or folders of them")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("predictions.csv"),
        help="the CSV to write, over any other; default: %(default)s",
    )
    parser.add_argument(
        "--on-bad-image", type=Literal["fail", "skip"], default="fail", help="skip leaves unreadable images out"
    )
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, ...; default: auto")
    return parser


def _report_parser() -> Parser:
    parser = _parser("report", "Write the HTML page of a run, or of predictions that any tool wrote.")
    parser.add_argument("target", type=Path, help="a run's folder, or a CSV or NPZ of predictions")
    parser.add_argument(
        "--counts", type=str, help="file with the training images per class, where predictions lack them"
    )
    parser.add_argument("--output", type=Path, help="the page; default: beside the predictions")
    _add_group_arguments(parser)
    return parser


def _add_data_actions(parser: Parser) -> None:
    actions = parser.add_subcommands(dest="action", metavar="ACTION")
    get = _parser("data get", "Download a data set into $LONGTAIL_DATA, or ~/.cache/longtail.")
    get.add_argument("name", help="cifar10 or cifar100")
    get.add_argument("--root", type=Path, help="where to put it")
    actions.add_subcommand("get", get, help="download")
    export = _parser("data export", "Write a data set as PNGs, a folder per class, and a CSV that lists them.")
    _add_data_arguments(export)
    export.add_argument(
        "--target", type=Path, required=True, help="the folder to write, which must not hold anything yet"
    )
    actions.add_subcommand("export", export, help="write as a folder of PNGs")


def _dispatch(arguments: Namespace, command: str) -> None:
    from longtail import commands  # torch takes a second to import; --help should not

    name = arguments.command
    given = arguments[name]
    if name in ("train", "show"):
        options = {"data": _data_name(given), "method": given.method, "recipe": given.recipe}
        options |= {"config": given.config, "changes": _changes(given)}
        if name == "show":
            return commands.show(**options)
        places = {
            "folder": given.out,
            "resume": given.resume,
            "against": given.against,
            "start": given.start,
            "loggers": given.log,
        }
        return commands.train(**options, **places, command=command)
    if name == "inspect":
        again = command.replace("longtail inspect", "longtail train", 1).replace(" --json", "")
        data = commands.data_config(given.data, _data_changes(given))
        return commands.inspect(data=data, as_json=given.json, again=again)
    if name == "list":
        return commands.list_names(kind=given.kind)
    if name == "predict":
        options = {"on_bad_image": given.on_bad_image, "device": given.device}
        return commands.predict(run=given.run, images=given.images, output=given.output, **options)
    if name == "data":
        return _dispatch_data(given)
    groups = {key: given[key] for key in ("many", "few", "groups") if given[key] is not None}
    if name == "report":
        return commands.report(target=given.target, counts=given.counts, output=given.output, groups=groups)
    prior = given.test_prior
    return commands.evaluate(
        target=given.target, counts=given.counts, test_prior=prior, groups=groups, as_json=given.json
    )


def _dispatch_data(given: Namespace) -> None:
    from longtail import commands

    chosen = given[given.action]
    if given.action == "get":
        return commands.data_get(name=chosen.name, root=chosen.root)
    return commands.data_export(data=commands.data_config(chosen.data, _data_changes(chosen)), target=chosen.target)


def _data_name(given: Namespace) -> str | None:
    name: str | None = given.data or given.data_option
    if given.data and given.data_option and given.data != given.data_option:
        raise InputError(f"two data sets are given: {given.data} and --data {given.data_option}; give one")
    return name


def _data_changes(given: Namespace) -> dict[str, Any]:
    keys = ("root", "imbalance_factor", "image_size", "val_share", "on_bad_image", "workers")
    return {key: given[key] for key in keys if given[key] is not None}


def _changes(given: Namespace) -> dict[str, Any]:
    """The flags as a mapping to merge over the recipes."""
    top = {key: given[key] for key in ("seed", "device", "protocol", "many", "few", "groups") if given[key] is not None}
    model = {key: given[key] for key in ("backbone", "pretrained") if given[key] is not None}
    training = {key: given[key] for key in ("epochs", "batch_size", "precision") if given[key] is not None}
    if given.lr is not None:
        training["optimizer"] = {"lr": given.lr}
    nested = {"data": _data_changes(given), "model": model, "training": training, "loss": given.loss}
    changes = top | {key: value for key, value in nested.items() if value}
    if given.set:
        changes["set"] = [_setting(text) for text in given.set]
    return changes


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes KEY=VALUE (stages.0.training.clip_norm=1, say), not {text!r}")
    return key, yaml.safe_load(value)


if __name__ == "__main__":
    main()
