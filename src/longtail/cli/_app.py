"""Parse the command line, run one command and turn errors into messages and exit codes.

Exit codes: 0 for success, 2 for bad input or a file that cannot be written, 130 for an interrupt (Ctrl-C or SIGTERM),
and 1 for a failed training of a benchmark or an internal error (with a traceback).
"""

import errno
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from longtail._signals import sigterm_as_ctrl_c
from longtail._streams import prepare_streams, stderr, stdout, use_utf8
from longtail._threads import prepare
from longtail.cli._errors import refuse_empty, usage_error, with_flags
from longtail.cli._help import command_help, overview
from longtail.errors import InputError
from longtail.version import __version__

ABOUT = "Train and evaluate image classifiers on long-tailed (class-imbalanced) data."

COMMANDS = {
    "train": "Train, evaluate and report.",
    "evaluate": "Evaluate a run, or predictions of any tool.",
    "predict": "Classify images with a trained run.",
    "export": "Write a trained model as ONNX, TorchScript, ...",
    "serve": "Answer HTTP requests with a trained run.",
    "report": "Write the HTML report of a run or of predictions.",
    "features": "Write features of a run or a backbone to a file.",
    "compare": "Compare runs class by class.",
    "bench": "Train many methods under one protocol.",
    "figure": "Draw a figure of the source papers.",
    "inspect": "Describe a data set and recommend a method.",
    "list": "List methods, data sets, losses, samplers, ...",
    "show": "Print the resolved configuration of a run.",
    "data": "Download, export or prepare a data set.",
    "detect": "Train a detector, or detect objects.",
}
"""The commands with their one-line descriptions, in the order of the help."""

DATA_COMMANDS = {
    "get": "Download a data set.",
    "export": "Write a data set as a folder of PNG files.",
    "prepare": "Write a copy with smaller images.",
}
"""The commands below `longtail data`."""

DETECT_COMMANDS = {
    "train": "Train a detector, evaluate and report.",
    "predict": "Detect objects in images with a trained run.",
}
"""The commands below `longtail detect`."""

BELOW = {"data": DATA_COMMANDS, "detect": DETECT_COMMANDS}
"""Commands that have commands below them."""

EXAMPLES = """\
longtail train             # built-in example (digits-lt), less than a minute
longtail train photos/     # your own images, one folder per class
longtail inspect photos/   # class counts, imbalance, recommended method
longtail list              # methods, data sets and components"""

SYNTAX = Parameter(
    negative=(),  # no --no-FLAG, no --empty-LIST
    allow_repeating=True,  # the last value of an option counts; the values of a list accumulate
    consume_multiple=1,  # a list takes one or more values: --set A=1 B=2
    json_list=False,
    json_dict=False,
)

_OF_NAMES = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE)
_OF_DISKS = (errno.EIO, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
OUTSIDE = (*_OF_NAMES, *_OF_DISKS)
"""Errors of the system whose cause is a file or folder of the user, wherever the program touches it."""

LONGEST = 5000
"""Largest number of characters of a message."""

HELP = ("--help", "-h")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit.

    Args:
        arguments: Words after `longtail`. Default: those of the process.

    Raises:
        SystemExit: Always, with the exit code.
    """
    if arguments is None:
        use_utf8()
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    with sigterm_as_ctrl_c():
        code, message = _outcome(words)
        if message:
            stderr.write(f"longtail: {message}\n")
        stderr.flush()
    raise SystemExit(code)


def _outcome(words: Sequence[str]) -> tuple[int, str]:
    """Run one command, and return the exit code and the last message."""
    try:
        _run(list(words))
        stdout.flush()
    except InputError as error:
        return 2, _shortened(str(error))
    except BrokenPipeError:  # the reader of stdout is gone, as in `longtail list | head`
        return 0, ""
    except KeyboardInterrupt:
        return 130, "interrupted"
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # compared by name: importing the class would import torch
            raise
        return 130, "stopped, the state is saved; resume with --resume and the same --out"
    return 0, ""


def _shortened(message: str) -> str:
    """Cut a message that quotes a huge value of the user."""
    if len(message) <= LONGEST:
        return message
    return f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]} ({len(message):,} characters)"


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """Parse a command line and return the call that runs it.

    Args:
        arguments: Words after `longtail`.

    Raises:
        InputError: If a command, an option or a value is unknown, missing or malformed.

    Example:
        >>> parse(["list", "methods"]).args
        ('methods',)
    """
    app, words = _build_app(), [_expanded(word) for word in arguments]
    path = app.parse_commands(words)[0]
    known = _commands_below(path)
    try:
        refuse_empty(words)
        if known and len(words) == len(path):
            raise InputError(f"the command is missing; use one of {', '.join(known)}")
        function, given, not_parsed = app.parse_args(words, print_error=False, exit_on_error=False)
    except (CycloptsError, InputError) as error:
        message = usage_error(error, known) if isinstance(error, CycloptsError) else error
        raise InputError(f"{message}\nsee: {' '.join(['longtail', *path, '--help'])}") from None
    line = {"command": shlex.join(["longtail", *words])} if "command" in not_parsed else {}
    return partial(function, *given.args, **given.kwargs, **line)


def _expanded(word: str) -> str:
    """Expand `~` at the start of a word or of the value of an option, where a shell leaves it (`--out=~/runs/a`)."""
    option, equals, value = word.partition("=")
    if equals and option.startswith("--"):
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


def help_text(arguments: Sequence[str]) -> str:
    """Return the help of a command.

    Args:
        arguments: Name of the command; empty for the help of `longtail` itself. Words after it are ignored.

    Raises:
        InputError: If there is no such command.

    Example:
        >>> print(help_text(["data"]).splitlines()[0])
        usage: longtail data COMMAND ...
    """
    path, apps, rest = _build_app().parse_commands(list(arguments))
    if not _commands_below(path):
        return command_help(" ".join(path), apps[-1])
    if rest and rest[0] not in HELP:
        parse(arguments)  # raises: the command is unknown
    if path:
        return overview(f"longtail {path[0]}", COMMANDS[path[0]], BELOW[path[0]])
    return overview("longtail", ABOUT, COMMANDS, {"--version": "Print the version."}, EXAMPLES)


def _build_app() -> App:
    """Return the parser of all commands, whose modules it imports when they are used."""
    app = App(name="longtail", help_flags=(), version_flags=())
    for name in COMMANDS:
        if name not in BELOW:
            app.command(f"longtail.cli.{name}:main", name=name, default_parameter=SYNTAX)
    for group, commands in BELOW.items():
        inner = App(name=group, help_flags=(), version_flags=())
        for name in commands:
            inner.command(f"longtail.cli.{group}:{name}", name=name, default_parameter=SYNTAX)
        app.command(inner)
    return app


def _commands_below(path: Sequence[str]) -> list[str]:
    if not path:
        return list(COMMANDS)
    return list(BELOW.get(path[0], ())) if len(path) == 1 else []


def _run(words: list[str]) -> None:
    options = words[: words.index("--")] if "--" in words else words
    if words[:1] == ["--version"]:
        stdout.write(f"longtail {__version__}\n")
    elif any(word in HELP for word in options):
        stdout.write(help_text(words))
    else:
        command = parse(words)
        prepare()  # before the command imports torch
        from longtail._logging import log_to_stderr  # rich takes a tenth of a second to import

        try:
            with log_to_stderr():
                command()
        except RuntimeError as error:
            stream = sys.modules.get("longtail.data.stream")  # importing it would import torch
            if stream is None or not stream.is_worker_death(error):
                raise
            raise stream.worker_death(error) from error
        except InputError as error:
            raise InputError(with_flags(str(error), _build_app().parse_commands(words)[1][-1], words)) from error
        except OSError as error:
            if error.errno not in OUTSIDE or error.filename is None:
                raise
            raise InputError(f"cannot access {os.fsdecode(error.filename)}: {error.strerror}") from error
