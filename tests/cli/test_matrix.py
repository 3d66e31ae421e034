"""Every command under conditions that a terminal, a disk or a scheduler brings.

The tables below state the commands and the exit codes. In all cases: no traceback; each file is as it was before the
call or as a call without disturbance writes it, so there is no part of a file and no temporary one.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

from longtail.cli import COMMANDS, DATA_COMMANDS

from .forked import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, drops capabilities and writes to /dev/full")

RUN, OTHER, NEW = "läufe/ce", "läufe/bs", "out/new"
TRAIN = ("train", "data", "--method", "ce", "--epochs", "2", "--out", NEW)

# the words of each command, and the file that it starts to write when SIGTERM comes
WRITE = {
    "train": (TRAIN, "log.jsonl"),
    "predict": (("predict", RUN, "data/ant", "--output", "out/p.csv"), "p.csv"),
    "export": (("export", RUN, "--output", "out/m.safetensors"), "m.safetensors"),
    "report": (("report", RUN), "report.html"),
    "features": (("features", RUN, "--output", "out/f.npz"), "f.npz"),
    "compare": (("compare", RUN, OTHER, "--output", "out/c.html", "--table", "out/c.csv"), "c.csv"),
    "bench": (("bench", "plan.yaml", "--table-only", "--adopt", RUN, OTHER, "--out", "out/bench"), "table.tex"),
    "figure": (("figure", "group-bars", RUN, OTHER, "--out", "out"), "group-bars.pdf"),
    "data-get": (("data", "get", "cifar10", "--root", "out"), "data_batch_2.bin"),
    "data-export": (("data", "export", "data", "--target", "out/exported"), "/ant/"),
    "data-prepare": (("data", "prepare", "data", "--output", "out/new-copy"), "/ant/"),
}
PRINT = {
    "evaluate": ("evaluate", RUN),
    "inspect": ("inspect", "data"),
    "list": ("list",),
    "show": ("show", "data", "--method", "ce"),
    "show-run": ("show", RUN),
    "help": ("--help",),
    "version": ("--version",),
}
EVERY = {**{name: words for name, (words, _) in WRITE.items()}, **PRINT}

# exit codes of the commands that write files, and of those that only print
CODES = {
    "no UTF-8": ({"encoding": "ascii"}, 0, 0),
    "no stdout": ({"stdout": "none", "stderr": "none"}, 0, 0),
    "read-only folder": ({"obeys_modes": True}, 2, 0),
    "full disk": ({"largest_file": 100}, 2, 0),
    "full disk, stdout": ({"stdout": "full"}, 2, 2),
    "full disk, stderr": ({"stderr": "full"}, 0, 0),
    "closed pipe": ({"stdout": "closed pipe", "stderr": "closed pipe"}, 0, 0),
    "SIGTERM": ({"signal": signal.SIGTERM, "moment": "writing"}, 130, 130),
    "SIGINT": ({"signal": signal.SIGINT, "moment": "reading"}, 130, 130),
}
READ_NOTHING = ("help", "version", "list")


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def prepared(server, tmp_path_factory):
    """A folder with `given`: data and two runs with names that are not ASCII, and old files where commands write."""
    folder = tmp_path_factory.mktemp("matrix") / "place"
    for name, count in (("Bäume", 20), ("ant", 10)):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.full((8, 8, 3), 80 * len(name) % 256, np.uint8)
            pixels[index // 8, index % 8] = 0
            Image.fromarray(pixels).save(folder / "data" / name / f"{index}.png")
    for run, method in ((RUN, "ce"), (OTHER, "balanced-softmax")):
        ended = server.call(folder, "train", "data", "--method", method, "--epochs", "1", "--out", run)
        assert ended.code == 0, ended.err
    plan = {"data": "data", "methods": ["ce", "balanced-softmax"], "seeds": 1, "changes": {"training": {"epochs": 1}}}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    (folder / "out").mkdir()
    for name in ("p.csv", "f.npz", "c.html", "c.csv", "group-bars.svg", "group-bars.png"):
        (folder / "out" / name).write_text("before")
    folder.rename(folder.with_name("given"))
    return folder.parent


@pytest.fixture(scope="module")
def undisturbed(server, prepared):
    """Files after each command without disturbance, computed on demand."""
    known = {}

    def after(command):
        if command not in known:
            ended = server.call(fresh(prepared), *EVERY[command], encoding="utf-8")
            assert ended.code == 0, ended.err
            known[command] = ended.out, contents(prepared / "place")
        return known[command]

    return after


def fresh(prepared):
    """Return a copy of what is prepared, always under the same name, which some files state."""
    place = prepared / "place"
    shutil.rmtree(place, ignore_errors=True)
    return shutil.copytree(prepared / "given", place)


def contents(folder):
    """Return the files of a folder, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def is_complete(name, content):
    """Return whether a file is whole, where the content differs from call to call."""
    if name.endswith((".pt", ".npz")):
        return zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    if name.endswith((".json", ".jsonl")):
        return all(map(json.loads, [content] if name.endswith(".json") else content.splitlines()))
    return content.endswith(b"</html>\n")


def check_files(before, now, after):
    for name, content in now.items():
        known = [files[name] for files in (before, after) if name in files]
        assert known, f"{name} is left behind"
        assert content in known or (name.startswith(NEW) and is_complete(name, content)), f"{name} is damaged"
    assert before.keys() <= now.keys()


def moment_of(command, wanted):
    if wanted == "writing" and command in WRITE:
        return WRITE[command][1]
    return "printing" if wanted == "writing" or command in READ_NOTHING else wanted


CASES = [(command, condition) for command in EVERY for condition in CODES]


@pytest.mark.parametrize(("command", "condition"), CASES, ids=[": ".join(case) for case in CASES])
def test_matrix(command, condition, server, prepared, undisturbed):
    fields, *codes = CODES[condition]
    code = codes[command in PRINT]
    printed, after = undisturbed(command)
    folder = fresh(prepared)
    if "moment" in fields:
        fields = {**fields, "moment": moment_of(command, fields["moment"])}
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders if condition == "read-only folder" else ():
        path.chmod(0o555)
    before = contents(folder)
    ended = server.call(folder, *EVERY[command], **fields)
    for path in folders:
        path.chmod(0o755)
    assert "Traceback" not in ended.err
    assert ended.code == code, ended.err
    if code == 2:
        assert ended.err.count("longtail: ") == 1
    now = contents(folder)
    check_files(before, now, after)
    if code == 0:
        assert now.keys() == after.keys()
        if condition == "no UTF-8":
            assert ended.out.isascii()
            assert len(ended.out.splitlines()) == len(printed.splitlines())
        elif fields.get("stdout", "pipe") == "pipe":
            assert ended.out == printed


def test_every_command_is_in_the_matrix():
    names = {name for name in COMMANDS if name != "data"} | {f"data-{name}" for name in DATA_COMMANDS}
    assert names - {"serve"} <= EVERY.keys()  # a service does not end; see tests/serve/test_server.py


def test_a_stopped_training_resumes(server, prepared):
    folder = fresh(prepared)
    assert server.call(folder, *TRAIN, signal=signal.SIGTERM, moment="log.jsonl").code == 130
    ended = server.call(folder, *TRAIN, "--resume", encoding="utf-8")
    assert ended.code == 0, ended.err
    assert (folder / NEW / "result.json").is_file()


def test_a_run_whose_report_cannot_be_written_has_its_result(server, prepared):
    folder = fresh(prepared)
    (folder / NEW / "report.html").mkdir(parents=True)
    ended = server.call(folder, *TRAIN, encoding="utf-8")
    assert ended.code == 0, ended.err
    assert "the report is not written" in ended.err
    assert server.call(folder, "evaluate", NEW, encoding="utf-8").code == 0


def test_a_disk_that_is_full_at_the_checkpoint_ends_with_a_message(server, prepared):
    folder = fresh(prepared)
    ended = server.call(folder, *TRAIN, largest_file=5000)
    assert ended.code == 2
    assert "cannot write the checkpoint" in ended.err
    assert not list((folder / NEW / "checkpoint").iterdir())


def test_names_mean_the_same_files_in_a_locale_without_utf8(prepared):
    folder = fresh(prepared)
    environment = {key: value for key, value in os.environ.items() if key not in ("LANG", "PYTHONIOENCODING")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from longtail.cli import main; main()"
    words = [sys.executable, "-c", code, "predict", RUN, "data/Bäume", "--output", "out/p.csv"]
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"20 images -> out/p.csv\n", b"")
    assert (folder / "out" / "p.csv").read_text("utf-8").splitlines()[1].startswith("data/Bäume/0.png,")
