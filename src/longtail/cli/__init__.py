"""The command line, one module per command.

The signature of a command's `main` is its parser, and the docstring is its help. A module is imported only when its
command is used, and imports torch only when the command runs.
"""

from longtail.cli._app import BELOW, COMMANDS, DATA_COMMANDS, help_text, main, parse

__all__ = ["BELOW", "COMMANDS", "DATA_COMMANDS", "help_text", "main", "parse"]
