"""One case in a process of its own: limits of time and memory, and the files before and after."""

import os
import re
import resource
import signal
import stat
import sys
import time
import traceback
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

SECONDS = 180
MEMORY = 3 << 30
"""Bytes of address space that a case may take in addition to those of the fuzz."""
LONGEST = 6000
CACHE = "home/.cache"
"""Folder of the user for what is made once from the data, such as the images of a Parquet table."""
NOBODY = 65534

Listing = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Case:
    """One call of the command line.

    Args:
        reader: Reader that gets the damaged input.
        arguments: Words after `longtail`, with paths relative to the folder of the case.
        names: Words of which a refusal must contain one: the damaged file, or the folder or option that led to it.
        unprivileged: Run as a user who is not root.
    """

    reader: str
    arguments: tuple[str, ...]
    names: tuple[str, ...]
    unprivileged: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of a case.

    Args:
        kind: "accepted", "refused" or "other".
        reason: What is wrong, for "other".
        message: Standard error.
    """

    kind: str
    reason: str
    message: str


class Running:
    """A case that has started.

    Args:
        case: The case.
        box: Folder of the case. The inputs are in `data`, the outputs go to `out`, temporary files to `tmp`.
    """

    def __init__(self, case: Case, box: Path) -> None:
        self.case, self.box = case, box
        for name in ("out", "tmp", "home"):
            (box / name).chmod(0o777)
        self.before, self.out_before = listing(box, ("out", "tmp")), listing(box / "out")
        self.started = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _call(case, box)

    def outcome(self) -> Outcome | None:
        """Return the outcome, or None while the case runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() - self.started < SECONDS:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return Outcome("other", f"no end after {SECONDS} s", self._message())
        return self._judge(os.waitstatus_to_exitcode(status))

    def _message(self) -> str:
        return (self.box / "tmp" / "stderr").read_text(errors="replace")

    def _judge(self, code: int) -> Outcome:
        message = self._message()
        written = changes(self.before, listing(self.box, ("out", "tmp")))
        written = [path for path in written if not path.startswith(CACHE)]
        left = changes(self.out_before, listing(self.box / "out"))
        left = (
            [] if "diverged" in message or any("checkpoint" in path for path in left) else left
        )  # a training that failed, such as by its rate
        reason = ""
        if code not in (0, 2) or "Traceback" in message:
            reason = f"exit code {code}: {_last_frame(message)}"
        elif written:
            reason = f"written outside of the output folder: {', '.join(written[:3])}"
        elif "is not written" in message:
            reason = f"no report: {message.strip().splitlines()[-1][:200]}"
        elif code == 2:
            reason = _fault_of_refusal(message, self.case.names) or (f"left behind: {left[0]}" if left else "")
        return Outcome("other" if reason else "refused" if code else "accepted", reason, message)


def _fault_of_refusal(message: str, names: tuple[str, ...]) -> str:
    text = "\n".join(message.split("longtail: ", 1)[1:])
    if not text:
        return "exit code 2 without a message"
    if len(text) > LONGEST:
        return f"a message of {len(text):,} characters"
    if not any(name in text for name in names):
        return f"the message does not name {names[0]}: {text[:200]!r}"
    return ""


def _last_frame(message: str) -> str:
    frames = re.findall(r'File "([^"]*)", line (\d+), in (\S+)', message)
    own = [frame for frame in frames if "/longtail/" in frame[0]] or frames
    place = f"{own[-1][0].rpartition('/longtail/')[2]}:{own[-1][1]} {own[-1][2]}" if own else ""
    last = (message.strip().splitlines() or [""])[-1]
    return f"{place} {last[:160]}"


def listing(folder: Path, without: tuple[str, ...] = ()) -> Listing:
    """Return size, checksum and mode of everything in a folder, by path."""
    found = {}
    for place, folders, files in os.walk(folder):
        if place == str(folder):
            folders[:] = [name for name in folders if name not in without]
        for name in (*folders, *files):
            path = os.path.join(place, name)
            with suppress(OSError):  # longer than a path may be
                status = os.lstat(path)
                is_file = stat.S_ISREG(status.st_mode)
                content = zlib.crc32(Path(path).read_bytes()) if is_file else 0
                found[os.path.relpath(path, folder)] = (status.st_size * is_file, content, status.st_mode)
    return found


def changes(before: Listing, after: Listing) -> list[str]:
    """Return the paths that were added, removed or changed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _call(case: Case, box: Path) -> NoReturn:
    """Run the command line in this process and end it."""
    code = 70
    try:
        os.setsid()
        os.chdir(box)
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(box / "tmp" / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding="utf-8") for number in (1, 2))  # noqa: SIM115
        os.environ.update(TMPDIR=str(box / "tmp"), HOME=str(box / "home"), LONGTAIL_DATA=str(box / "data"))
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if case.unprivileged and os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        from longtail.cli import main

        main(list(case.arguments))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
