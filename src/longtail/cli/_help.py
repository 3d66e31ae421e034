"""Plain-text help of the commands, at most 80 columns wide."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import cast

from cyclopts import App, Argument, Group

INDENT = 2
COLUMN = 26
"""Column at which the descriptions start."""


def overview(
    name: str, about: str, commands: Mapping[str, str], options: Mapping[str, str] | None = None, examples: str = ""
) -> str:
    """Return the help of a command that has commands below it.

    Args:
        name: What the user types, such as "longtail data".
        about: Description.
        commands: One-line descriptions of the commands, by name.
        options: One-line descriptions of the options, by flag.
        examples: One command per line.
    """
    rows = {**(options or {}), "-h, --help": "Print this help."}
    parts = [
        f"usage: {name} COMMAND ...",
        about,
        _table("Commands", commands.items(), column=12),
        _table("Options", rows.items(), column=14),
        f"Help of a command: {name} COMMAND --help",
        _examples(examples),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def command_help(name: str, app: App) -> str:
    """Return the help of a command: usage, description, options by group, examples.

    Args:
        name: Name of the command, without "longtail".
        app: Command.
    """
    arguments = [argument for argument in app.assemble_argument_collection(parse_docstring=True) if argument.show]
    about, examples = _split(app.help)
    parts = [_wrapped(f"usage: longtail {name} {_usage(arguments)}", 18), about]
    groups: dict[str, list[tuple[str, str]]] = {}
    for argument in arguments:
        groups.setdefault(_group(argument), []).append((_label(argument), argument.parameter.help or ""))
    groups.setdefault("Options", []).append(("-h, --help", "Print this help."))
    parts += [_table(title, rows) for title, rows in groups.items()]
    return "\n\n".join([*parts, _examples(examples)]).rstrip() + "\n"


def _split(docstring: str) -> tuple[str, str]:
    """Return the description and the examples of a docstring in Google style."""
    text = inspect.cleandoc(docstring)
    about = re.split(r"\n\n(?=\w+:\n)", text)[0]
    examples = re.search(r"\nExamples:\n(?P<lines>(?:(?: +.*)?\n?)+)", text)
    paragraphs = [_wrapped(" ".join(paragraph.split())) for paragraph in about.split("\n\n")]
    return "\n\n".join(paragraphs), textwrap.dedent(examples["lines"]).strip() if examples else ""


def _group(argument: Argument) -> str:
    group = next(iter(cast("tuple[Group, ...]", argument.parameter.group or ())))
    return "Options" if group.name == "Parameters" else str(group.name)


def _usage(arguments: list[Argument]) -> str:
    words = []
    for argument in arguments:
        label = _label(argument)
        if argument.index is not None:
            words.append(label if argument.required else f"[{label}]")
        elif argument.required:
            words.append(label)
    return " ".join([*words, "[options]"])


def _label(argument: Argument) -> str:
    """Return `--epochs N`, `--resume`, `--set KEY=VALUE ...` or, for a positional argument, `DATA`."""
    choices = argument.get_choices(force=True)
    value = f"{{{','.join(choices)}}}" if choices else argument.parameter.metavar or ""
    if argument.index is not None:
        value = value or argument.name
    elif argument.is_flag():
        return argument.name
    value = value or argument.field_info.name.upper()
    several = f"{value} ..." if argument.token_count()[1] else value
    return several if argument.index is not None else f"{argument.name} {several}"


def _table(title: str, rows: Iterable[tuple[str, str]], column: int = COLUMN) -> str:
    lines = [f"{title}:"]
    for label, text in rows:
        head = " " * INDENT + label
        if len(head) > column - 2:
            lines.append(head)
            head = ""
        body = _wrapped(text, column, first=head.ljust(column))
        lines.append(body.rstrip())
    return "\n".join(lines)


def _examples(text: str) -> str:
    return f"Examples:\n{textwrap.indent(text, ' ' * INDENT)}" if text else ""


def _wrapped(text: str, indent: int = 0, first: str = "") -> str:
    width = min(80, max(40, shutil.get_terminal_size().columns)) - 1
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
