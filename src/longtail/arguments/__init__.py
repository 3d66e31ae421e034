"""What each command takes: a module per family of commands, which alone import jsonargparse, and never torch.

A command is a `Command` in a module here, its line in `COMMANDS` below, and a function in `longtail.commands`.
"""

from longtail.arguments.bench import BENCH
from longtail.arguments.compare import COMPARE
from longtail.arguments.data import DATA, INSPECT
from longtail.arguments.features import FEATURES
from longtail.arguments.figure import FIGURE
from longtail.arguments.judge import EVALUATE, PREDICT, REPORT
from longtail.arguments.listing import LIST
from longtail.arguments.parser import Command, Parser, new_parser
from longtail.arguments.train import SHOW, TRAIN

COMMANDS: tuple[Command, ...] = (
    TRAIN,
    EVALUATE,
    PREDICT,
    REPORT,
    FEATURES,
    COMPARE,
    BENCH,
    FIGURE,
    INSPECT,
    LIST,
    SHOW,
    DATA,
)
"""Every command, in the order of the help."""

__all__ = ["COMMANDS", "Command", "Parser", "new_parser"]
