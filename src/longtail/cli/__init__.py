"""The command line: reads arguments, runs the command, turns errors into messages and exit codes.

0 done; 2 bad input, with a message; 1 our fault, with a traceback; 130 interrupted, the state saved.
"""

import os
import shlex
import sys
from typing import NoReturn

from longtail.arguments import COMMANDS, Parser, new_parser
from longtail.errors import InputError
from longtail.version import __version__

EXAMPLES = """\
  longtail train                       the embedded example: uneven digits, in under a minute
  longtail train photos/               your own images, a folder per class
  longtail inspect photos/             how uneven are they, and what to do about it
  longtail list                        methods, data sets and everything they are made of"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point of `longtail`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _dispatch(arguments)
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
    about = "Train and judge image classifiers on data whose classes are unevenly filled."
    parser = new_parser("", "COMMAND ...", about, EXAMPLES)
    parser.add_argument("--version", action="version", version=f"longtail {__version__}")
    commands = parser.add_subcommands(title="commands", dest="command", metavar="COMMAND")
    for each in COMMANDS:
        child = new_parser(each.name, each.usage, each.description, each.examples)
        commands.add_subcommand(each.name, child, help=each.help)
        each.arguments(child)  # once its parent stands, or jsonargparse refuses commands below it
    return parser


def _dispatch(arguments: list[str]) -> None:
    given = build_parser().parse_args(arguments)
    command = next(each for each in COMMANDS if each.name == given.command)
    command.run(given[command.name], f"longtail {shlex.join(arguments)}")


if __name__ == "__main__":
    main()
