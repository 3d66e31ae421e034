"""Command lines in forked processes: torch is imported once, and each call has its own streams, limits and signals.

`Server` is the side of the tests. `main` is the process that forks.
"""

import contextlib
import ctypes
import errno
import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("cli", "report", "run", "papers", "bench.run", "data.download", "data.export", "run.export_features")
CAPABILITIES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, by which root ignores file modes


@dataclass(frozen=True)
class Condition:
    """Conditions of one call.

    Args:
        encoding: Encoding of the streams.
        stdout: Place of stdout: "pipe", "none", "full" (a device without space) or "closed pipe".
        stderr: Place of stderr, as that of stdout.
        obeys_modes: Whether file modes hold for root too.
        largest_file: Bytes after which a file cannot grow; None for no limit.
        signal: Signal that the process receives.
        moment: When it receives it: "reading", "printing", or the end of the name of the file that it starts to write.
    """

    encoding: str = "utf-8"
    stdout: str = "pipe"
    stderr: str = "pipe"
    obeys_modes: bool = False
    largest_file: int | None = None
    signal: int | None = None
    moment: str = ""


@dataclass(frozen=True)
class Ended:
    """Exit code and output of a call."""

    code: int
    out: str
    err: str


class Server:
    """A process that forks for every call. A context manager."""

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.forked"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def call(self, folder: Path, *arguments: str, **condition: object) -> Ended:
        """Run `longtail ARGUMENTS` in a folder under the fields of a `Condition`.

        Without any, the call runs in the process that forks, which spares later calls what is computed once.
        """
        order = {"folder": str(folder), "arguments": arguments, "condition": condition}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def main() -> None:
    """Import the commands, then fork for each line of stdin."""
    for name in PACKAGES:
        __import__(f"longtail.{name}")
    for line in sys.stdin:
        order = json.loads(line)
        gc.collect()
        gc.freeze()  # a collection in a child would copy all pages
        print(json.dumps(_forked(**order) if order["condition"] else _here(**order)), flush=True)


def _here(folder: str, arguments: list[str], condition: dict[str, object]) -> dict[str, object]:
    from longtail.cli import main as command_line

    os.chdir(folder)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_line(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def _forked(folder: str, arguments: list[str], condition: dict[str, object]) -> dict[str, object]:
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        os.close(err)
        os._exit(_call(folder, arguments, Condition(**condition), out_end, err_end))
    os.close(out_end)
    os.close(err_end)
    texts = [io.open(end, "rb").read().decode("utf-8", "replace") for end in (out, err)]  # noqa: SIM115, UP020
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"code": code, "out": texts[0], "err": texts[1]}


def _call(folder: str, arguments: list[str], condition: Condition, out: int, err: int) -> int:
    """Set up the conditions, run the command line, and return the exit code that Python would have."""
    from longtail.cli import main as command_line

    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.dup2(sys.stdin.fileno(), 0)
    os.chdir(folder)
    _set_stream("stderr", 2, condition.stderr, err, condition.encoding)
    _set_stream("stdout", 1, condition.stdout, out, condition.encoding)
    try:
        _without_network(arguments)
        _limit(condition)
        command_line(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120  # as Python, after "Exception ignored"
    return code


def _set_stream(name: str, descriptor: int, place: str, pipe: int, encoding: str) -> None:
    if place == "none":
        os.close(descriptor)
        setattr(sys, name, None)
        return
    if place == "full":
        pipe = os.open("/dev/full", os.O_WRONLY)
    if place == "closed pipe":
        reader, pipe = os.pipe()
        os.close(reader)
    os.dup2(pipe, descriptor)
    setattr(sys, name, open(descriptor, "w", encoding=encoding, closefd=False))  # noqa: SIM115


def _limit(condition: Condition) -> None:
    if condition.obeys_modes and os.geteuid() == 0:
        _drop_capabilities()
    if condition.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (condition.largest_file,) * 2)
    if condition.signal is not None:
        _send(condition.signal, condition.moment)


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    for place in (0, 1):  # effective and permitted, of which access() makes use
        sets[place] &= ~CAPABILITIES
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), errno.errorcode[ctypes.get_errno()])


def _send(number: int, moment: str) -> None:
    """Send a signal to this process once, at a moment of the call."""
    waiting, below = [True], os.path.realpath(os.getcwd())

    def fire() -> None:
        if waiting and waiting.pop():
            os.kill(os.getpid(), number)

    def watch(event: str, given: tuple[object, ...]) -> None:
        if event != "open" or not waiting or not isinstance(given[0], str):
            return
        writes = bool(int(given[2]) & (os.O_WRONLY | os.O_RDWR))
        if os.path.realpath(given[0]).startswith(below) and (moment in given[0] if writes else moment == "reading"):
            fire()

    class Firing(io.TextIOWrapper):
        def write(self, text: str) -> int:
            fire()
            return super().write(text)

    sys.addaudithook(watch)
    if moment == "printing":
        sys.stdout = Firing(sys.stdout.detach(), encoding="utf-8")


def _without_network(arguments: list[str]) -> None:
    """Replace the download of CIFAR-10 by a single record a file."""
    if arguments[:2] == ["data", "get"]:
        import numpy as np

        from longtail.data import download

        download._download_first = lambda cifar, *_: [
            np.full((1, cifar.record_bytes), place, np.uint8) for place in range(len(cifar.digests))
        ]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
