"""The command line: one module per command, whose `main` has the options as its signature and the help as its docstring.

A module is imported only when its command is used, and imports torch only when the command runs.
"""

from longtail.cli._app import COMMANDS, DATA_COMMANDS, help_text, main, parse

__all__ = ["COMMANDS", "DATA_COMMANDS", "help_text", "main", "parse"]
