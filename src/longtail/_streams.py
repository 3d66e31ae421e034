"""Output streams of the process: closed or full ones, and those that cannot show every character."""

import codecs
import io
import locale
import os
import sys
from contextlib import suppress
from typing import IO, Any, Literal

from longtail._io import WriteError

ASCII = {"–": "-", "−": "-", "…": "...", "×": "x", "→": "->", "†": "+"}  # noqa: RUF001
"""Replacements of characters that a stream cannot encode; "?" for all others."""


class Stream:
    """File object of the current `sys.stdout` or `sys.stderr`, for consoles and messages.

    Results on stdout must arrive: an error is a `WriteError`, or a `BrokenPipeError` if the reader has closed the pipe.
    Messages on stderr must not end the work that they are about: after an error, they are dropped.

    Args:
        name: Name of the stream.
    """

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    @property
    def _current(self) -> IO[str] | None:
        stream: IO[str] | None = getattr(sys, self._name)
        return getattr(stream, "rich_proxied_file", stream)  # a live display replaces both streams

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current, name)

    def write(self, text: str) -> None:
        """Write a text.

        Raises:
            WriteError: If stdout cannot be written.
            BrokenPipeError: If stdout is a closed pipe.
        """
        self._attempt("write", text)

    def flush(self) -> None:
        """Write what is buffered. The errors are those of `write`."""
        self._attempt("flush")

    def _attempt(self, action: str, *arguments: str) -> None:
        stream = self._current
        if stream is None:  # closed by the caller
            return
        try:
            getattr(stream, action)(*arguments)
        except OSError as error:
            _discard(stream)
            if self._name == "stderr":
                return
            if isinstance(error, BrokenPipeError):
                raise
            reason = error.strerror or str(error)
            raise WriteError(f"cannot write to stdout: {reason}; free some space or choose another place") from error


stdout, stderr = Stream("stdout"), Stream("stderr")


def _discard(stream: IO[str]) -> None:
    """Lead a stream to the null device. Its buffer could not be written at the exit of Python either."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        target, descriptor = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, target)
        os.close(descriptor)


def use_utf8() -> None:
    """Restart the process in the UTF-8 mode of Python if file names have another encoding, as with LC_ALL=C.

    A name in a configuration, a table or a report is then the same file in every locale. The streams keep the encoding
    of the terminal.
    """
    if os.name != "posix" or sys.getfilesystemencoding() == "utf-8" or not sys.executable:
        return
    os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
    os.environ["PYTHONUTF8"] = "1"  # for child processes
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def prepare_streams() -> None:
    """Replace closed streams by the null device, and print ASCII for characters that a stream cannot encode."""
    _open_descriptors()
    codecs.register_error("longtail", _in_ascii)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as some schedulers do
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the exit
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="longtail")


def _open_descriptors() -> None:
    """Open the standard descriptors that are closed: the next file would get their number, and foreign output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(each, "?") for each in error.object[error.start : error.end]), error.end
