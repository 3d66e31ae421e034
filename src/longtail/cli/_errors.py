"""Messages for errors in the command line, and command-line flags for errors of the library."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import get_args

from cyclopts import (
    App,
    Argument,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from longtail.errors import InputError, unknown_name

RULES = {int: "an integer", float: "a finite number"}


def usage_error(error: CycloptsError, commands: Sequence[str]) -> str:
    """Return the message for an error in the syntax of a command line: value, rule, nearest valid name.

    Args:
        error: Error of the parser.
        commands: Names of the valid commands, for an unknown command.
    """
    match error:
        case UnknownCommandError():
            word = (error.unused_tokens or [""])[0]
            if word.startswith("-"):
                return f"there is no option {word} before a command"
            return str(unknown_name("command", word, commands))
        case UnknownOptionError():
            option = (error.token.keyword or error.token.value).partition("=")[0]
            return f"there is no option {option}{_did_you_mean(option, _flags(error.argument_collection))}"
        case CoercionError(argument=Argument() as argument, token=token) if token is not None:
            return f"`{_shown(argument)}` must be {_rule(argument, token.value)}"
        case MissingArgumentError(argument=Argument() as argument):
            needs = "needs a value" if error.keyword or argument.tokens else "is missing"
            return f"`{_shown(argument)}` {needs}"
        case UnusedCliTokensError():
            words = error.unused_tokens or []
            return f"unexpected argument{'s' if len(words) > 1 else ''}: {' '.join(words)}"
    return str(error)


def refuse_empty(words: Sequence[str]) -> None:
    """Refuse empty words and values, such as an unset variable of a shell in quotes.

    Args:
        words: Words after `longtail`.

    Raises:
        InputError: With the option, or the word before.
    """
    for before, word in zip(["longtail", *words], words, strict=False):
        option, equals, value = word.partition("=")
        has_value = bool(equals) and option.startswith("--")
        if not (value if has_value else word).strip():
            place = f"`{option}`" if has_value else f"`{before}`" if before.startswith("--") else "an argument"
            raise InputError(f"{place} must not be empty, got {(value if has_value else word)!r}; leave it out")


def with_flags(message: str, app: App, words: Sequence[str] = ()) -> str:
    """Return the message with the flags of the parameters that it names in backquotes.

    Components name parameters (`val_share`); only the command line maps them to flags. A value of `--set` gets no flag,
    and a setting of a stage only if the flag was given, because it can also come from a file.

    Args:
        message: Message of an `InputError`.
        app: Command that was run.
        words: Words after `longtail`.
    """
    if app.default_command is None:
        return message
    named = re.findall(r"`(?:\w+\.)*(\w+)`", message)
    named = [name for name in named if not any(re.match(rf"(--set=)?([\w.]+\.)?{name}=", word) for word in words)]
    if re.search(r"\bstages\.\d", message):
        given = {word.partition("=")[0] for word in words}
        named = [name for name in named if f"--{name.replace('_', '-')}" in given]
    flags = {
        argument.field_info.name: argument.name
        for argument in app.assemble_argument_collection()
        if argument.parse and argument.name.startswith("--")
    }
    shown = dict.fromkeys(flags[name] for name in named if name in flags and flags[name] not in message)
    if not shown:
        return message
    return f"{message}{chr(10) if chr(10) in message else ' '}(command line: {', '.join(shown)})"


def _shown(argument: Argument) -> str:
    """Return the flag of an option, or the placeholder of a positional argument."""
    return argument.name if argument.name.startswith("-") else argument.parameter.metavar or argument.name


def _flags(arguments: Iterable[Argument]) -> list[str]:
    return [name for argument in arguments if argument.parse for name in argument.names if name.startswith("-")]


def _rule(argument: Argument, given: str) -> str:
    choices = argument.get_choices(force=True)
    if choices:
        return f"one of {', '.join(choices)}, got {given!r}{_did_you_mean(given, choices)}"
    kinds = (argument.hint, *get_args(argument.hint))
    rule = next((words for kind, words in RULES.items() if kind in kinds), "a valid value")
    return f"{rule}, got {given!r}"


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
