"""The parser of a command, with errors that a person can read, and what a command is."""

import difflib
import re
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from jsonargparse import ArgumentParser, Namespace


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
        commands = [str(name) for a in self._actions if a.dest == "command" for name in a.choices or ()]
        if message.startswith('expected "command"'):
            return f"give one of {', '.join(commands)}"
        choice = re.search(r"argument COMMAND: invalid choice: '(?P<given>\S+)'", message)
        if choice:
            near = difflib.get_close_matches(choice["given"], commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"give one of {', '.join(commands)}"
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


def new_parser(command: str, usage: str, description: str, examples: str = "") -> Parser:
    """A parser of `longtail COMMAND`; `examples` are lines, shown at the end of its help."""
    return Parser(
        prog=f"longtail {command}".strip(),
        usage=f"longtail {usage}",
        description=description,
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


@dataclass(frozen=True)
class Command:
    """A command of `longtail`.

    Args:
        name: what the user types, "train".
        help: half a line for the list of commands.
        description: a sentence for its own help.
        usage: what follows "longtail " in the first line of its help.
        examples: lines, indented by two blanks, for the end of its help.
        arguments: adds its arguments to its parser, which already hangs below `longtail`.
        run: does it, from what was read and the whole line as typed; imports `longtail.commands` only then, as torch
            takes a second to import and --help should not.
    """

    name: str
    help: str
    description: str
    usage: str
    examples: str
    arguments: Callable[[Parser], None]
    run: Callable[[Namespace, str], None]
