"""Arguments of `list`."""

from jsonargparse import Namespace

from longtail.arguments.parser import Command, Parser


def _list_arguments(parser: Parser) -> None:
    parser.add_argument("kind", nargs="?", help="only one kind: methods, losses, samplers, data, ...")


def _list(given: Namespace, line: str) -> None:
    from longtail.commands.listing import list_names

    list_names(kind=given.kind)


LIST = Command(
    "list",
    "methods, data sets, losses, samplers, ...",
    "List methods, data sets and everything they are made of.",
    "list [KIND]",
    """\
  longtail list
  longtail list methods""",
    _list_arguments,
    _list,
)
