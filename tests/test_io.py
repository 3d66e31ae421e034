"""File writes: atomic, in place of links, modes and devices kept, errors with a message."""

import ast
import json
import os
import resource
import signal
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

import longtail
from longtail._io import WriteError, append_text, atomic_write, is_stream, write_errors, write_json, write_text
from longtail.errors import InputError


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    (tmp_path / "dangling.csv").symlink_to("later.csv")
    write_text(tmp_path / "link.csv", "new")
    write_text(tmp_path / "dangling.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "dangling.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == (tmp_path / "later.csv").read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 4  # no temporary file is left


@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_the_mode_is_kept_from_the_first_byte(tmp_path, mode):
    path = tmp_path / "mine.csv"
    path.touch()
    path.chmod(mode)
    with atomic_write(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_mode_of_the_umask(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "new", "")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_pipe_is_written_through(tmp_path):
    pipe, received = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_text(pipe, "näher\n")
    reader.join(10)
    assert received == ["näher\n".encode()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_through(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    assert is_stream(link)
    write_text(link, "text")
    assert link.is_char_device()


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_an_open_descriptor_is_written_through(folder):
    read, write = os.pipe()
    write_text(Path(f"{folder}/{write}"), "text")
    os.close(write)
    with os.fdopen(read) as file:
        assert file.read() == "text"


def test_stdout_is_written_through(capfd):
    print("before")
    write_text(Path("/dev/stdout"), "text\n")
    print("after")
    assert capfd.readouterr().out == "before\ntext\nafter\n"


def test_an_error_leaves_a_pipe_without_content():
    read, write = os.pipe()
    with suppress(KeyError), atomic_write(Path(f"/dev/fd/{write}")) as file:
        file.write(b"half")
        raise KeyError
    os.close(write)
    with os.fdopen(read) as file:
        assert file.read() == ""


def test_what_is_not_utf8_is_escaped_and_read_back(tmp_path):
    name = os.fsdecode(b"B\xe4r.png")
    write_json(tmp_path / "result.json", {"näher": name})
    assert "näher" in (tmp_path / "result.json").read_text("utf-8")
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == {"näher": name}
    write_text(tmp_path / "config.yaml", yaml.safe_dump({"name": name}, allow_unicode=True))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8")) == {"name": name}
    append_text(tmp_path / "log", f"{name}\n")
    assert (tmp_path / "log").read_text("utf-8") == "B\\udce4r.png\n"


def test_a_full_disk_is_an_input_error_and_an_os_error():
    path = Path("/dev/full")
    for write in (write_text, append_text):
        with pytest.raises(InputError, match="cannot write /dev/full: No space left on device; free") as caught:
            write(path, "text")
        assert isinstance(caught.value, OSError)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(WriteError, match=r"cannot write .*missing/a.csv: No such file or directory"):
        write_text(tmp_path / "missing" / "a.csv", "")


@contextmanager
def small_disk():
    """A disk that is full after 8 bytes of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_failed_append_leaves_the_lines_before(tmp_path):
    path = tmp_path / "log.jsonl"
    append_text(path, "first\n")
    with pytest.raises(WriteError, match="File too large"), small_disk():
        append_text(path, "second\n")
    assert path.read_text() == "first\n"


def test_errors_about_other_files_and_closed_pipes_keep_their_type(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, write_errors(tmp_path / "a"):
        (tmp_path / "elsewhere" / "b").read_text()
    assert not isinstance(caught.value, InputError)
    with pytest.raises(BrokenPipeError), write_errors(tmp_path / "a"):
        raise BrokenPipeError


def text_calls_without_encoding(path):
    """Yield the calls of a source file that open a text file in the encoding of the locale."""
    for call in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Name, ast.Attribute)):
            continue
        function = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
        texts = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        given = any(keyword.arg == "encoding" for keyword in call.keywords)
        if function in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
            position = 0 if function == "read_text" else 1
            found = not given and len(call.args) <= position
        elif function in ("open", "fdopen") and not any("b" in text for text in texts):
            owner = call.func.value if isinstance(call.func, ast.Attribute) else None
            name = owner.id if isinstance(owner, ast.Name) else ""
            found = not given and name not in ("Image", "tarfile", "archive", "webbrowser") and "b" not in texts
            found = found and not (name == "os" and function == "open")
        else:
            found = any(keyword.arg == "text" for keyword in call.keywords) and not given
        if found:
            yield f"{path.name}:{call.lineno}: {ast.unparse(call)[:80]}"


def test_every_text_file_is_opened_as_utf8():
    package = Path(longtail.__file__).parent
    found = [call for path in sorted(package.rglob("*.py")) for call in text_calls_without_encoding(path)]
    assert not found, "\n".join(found)
