"""Arguments of `compare`."""

from pathlib import Path

from jsonargparse import Namespace

from longtail.arguments.common import add_group_arguments, groups
from longtail.arguments.parser import Command, Parser


def _compare_arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        help="2 to 8 folders of finished runs, or CSV or NPZ of predictions; the first is the reference",
    )
    parser.add_argument(
        "--counts", type=str, help="file with the training images per class, where predictions lack them"
    )
    parser.add_argument("--output", type=Path, help="the page; default: comparison.html")
    parser.add_argument("--table", type=Path, help="also write every class to this CSV file")
    add_group_arguments(parser)


def _compare(given: Namespace, line: str) -> None:
    from longtail.commands.compare import compare

    files = {"output": given.output, "table": given.table}
    compare(places=given.runs, counts=given.counts, groups=groups(given), **files)


COMPARE = Command(
    "compare",
    "which classes got better, which worse, and what are they now taken for",
    "Write a page that compares runs, or predictions of other tools, class by class; the first is the reference.",
    "compare RUN_OR_FILE RUN_OR_FILE ... [options]",
    """\
  longtail compare runs/ce runs/balms
  longtail compare runs/ce runs/balms runs/elm --output three.html --table classes.csv
  longtail compare runs/first other_tool.csv""",
    _compare_arguments,
    _compare,
)
