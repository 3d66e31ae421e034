"""Arguments of `inspect`, `data get` and `data export`."""

from pathlib import Path

from jsonargparse import Namespace

from longtail.arguments.common import add_data_arguments, data_changes
from longtail.arguments.parser import Command, Parser, new_parser


def _inspect_arguments(parser: Parser) -> None:
    add_data_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _data_arguments(parser: Parser) -> None:
    actions = parser.add_subcommands(dest="action", metavar="ACTION")
    about = "Download a data set into $LONGTAIL_DATA, or ~/.cache/longtail."
    get = new_parser("data get", "data get NAME [--root ROOT]", about)
    get.add_argument("name", help="cifar10 or cifar100")
    get.add_argument("--root", type=Path, help="where to put it")
    actions.add_subcommand("get", get, help="download")
    about = "Write a data set as PNGs, a folder per class, and a CSV that lists them."
    export = new_parser("data export", "data export [DATA] --target FOLDER [options]", about)
    add_data_arguments(export)
    export.add_argument(
        "--target", type=Path, required=True, help="the folder to write, which must not hold anything yet"
    )
    actions.add_subcommand("export", export, help="write as a folder of PNGs")


def _inspect(given: Namespace, line: str) -> None:
    from longtail.commands.data import data_config, inspect

    again = line.replace("longtail inspect", "longtail train", 1).replace(" --json", "")
    inspect(data=data_config(given.data, data_changes(given)), as_json=given.json, again=again)


def _data(given: Namespace, line: str) -> None:
    from longtail.commands.data import data_config, data_export, data_get

    chosen = given[given.action]
    if given.action == "get":
        return data_get(name=chosen.name, root=chosen.root)
    return data_export(data=data_config(chosen.data, data_changes(chosen)), target=chosen.target)


INSPECT = Command(
    "inspect",
    "how uneven is a data set, and what to do about it",
    "Say what a data set holds, how uneven it is, and what to do about it.",
    "inspect [DATA] [options]",
    """\
  longtail inspect photos/
  longtail inspect cifar100-lt --imbalance-factor 50 --json""",
    _inspect_arguments,
    _inspect,
)

DATA = Command(
    "data",
    "download a data set, or export one as a folder",
    "Download a data set, or export one as a folder of PNGs.",
    "data ACTION ...",
    """\
  longtail data get cifar100
  longtail data export digits-lt --target digits_folder""",
    _data_arguments,
    _data,
)
