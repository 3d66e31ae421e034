"""File writes: atomic, in UTF-8, with an `InputError` for a file that cannot be written."""

import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from longtail.errors import InputError

_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}


class WriteError(InputError, OSError):
    """A file that cannot be written, for example because the disk is full."""


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise a `WriteError` that names the file in place of the system's error.

    Args:
        path: File that the block writes.

    Raises:
        WriteError: If the block raises an `OSError` about this file or about no file. `BrokenPipeError` passes.
    """
    try:
        yield
    except (BrokenPipeError, WriteError):
        raise
    except OSError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)).parent != path.parent:
            raise  # about a file that the block reads
        reason = error.strerror or str(error)
        raise WriteError(f"cannot write {path}: {reason}; free some space or choose another place") from error


@contextmanager
def atomic_write(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when the block ends without an error.

    A reader sees the old content or the new content, never a part of either. An error or a kill inside the block
    leaves `path` unchanged. A file that is replaced passes on its mode and, if possible, its owner. The target of a
    symbolic link is replaced, not the link. The content is copied into a pipe or device at the end of the block.

    Args:
        path: File to write. Its folder must exist.
        keep: File to which the old content is moved. By default, it is dropped.

    Yields:
        The temporary file, open for binary writing.

    Raises:
        WriteError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.bin"
        >>> with atomic_write(path) as file:
        ...     _ = file.write(b"123")
        >>> path.read_bytes()
        b'123'
    """
    if is_stream(path):
        with write_errors(path), tempfile.TemporaryFile() as content:
            yield content
            content.seek(0)
            with _open_stream(path) as target:
                shutil.copyfileobj(content, target)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    unfinished = path.with_name(f".{path.name}.part")
    with write_errors(path):
        try:
            with unfinished.open("wb") as file:
                _copy_owner_and_mode(path, unfinished)
                yield file
                file.flush()
                os.fsync(file.fileno())
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(path.parent)


def is_stream(path: Path) -> bool:
    """Return whether a path leads to a pipe, a device or an open descriptor such as /dev/stdout.

    A rename would replace these by a file.
    """
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _descriptor(path: Path) -> int | None:
    name = os.path.abspath(path)
    match = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", name)
    return int(match[1]) if match else _DESCRIPTORS.get(name)


def _open_stream(path: Path) -> IO[bytes]:
    descriptor = _descriptor(path)
    if descriptor is None:
        return path.open("wb")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return os.fdopen(os.dup(descriptor), "wb")


def _copy_owner_and_mode(path: Path, unfinished: Path) -> None:
    """Prepare the temporary file before it has content, which others might not be allowed to read."""
    with suppress(OSError):  # there is no earlier file, or the owner cannot be changed
        status = path.stat()
        unfinished.chmod(stat.S_IMODE(status.st_mode))
        if os.name != "nt":
            os.chown(unfinished, status.st_uid, status.st_gid)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk where a folder can be opened for that, which Windows does not allow."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file atomically, as UTF-8 and with the line ends of `text`.

    A part of a file name that is not UTF-8 is written as an escape such as `\udce4`, which a JSON reader decodes.

    Raises:
        WriteError: If the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of a cache atomically. Several processes may write the same file at once.

    Unlike `atomic_write`, this does not wait for the disk: after a power failure, the file may be damaged.

    Args:
        path: File to write. Its folder must exist.
        content: New content.

    Raises:
        OSError: If the file cannot be written.
    """
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except OSError:
        Path(unfinished).unlink(missing_ok=True)
        raise


def append_text(path: Path, text: str) -> None:
    """Append to a text file. A full disk leaves the content before the call, not a part of `text`.

    Raises:
        WriteError: If the file cannot be written.
    """
    with write_errors(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            content = text.encode(errors="backslashreplace")
            while content:
                content = content[file.write(content) :]
        except OSError:
            with suppress(OSError):  # a device has no length
                file.truncate(size)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a value as an indented JSON file atomically.

    Raises:
        WriteError: If the file cannot be written.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
