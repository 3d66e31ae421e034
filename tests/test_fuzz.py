"""A small size of the fuzz, and that it finds faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.sandbox import Case, Running, changes, listing

ROOT = Path(__file__).parents[1]


def run_fuzz(*arguments: str) -> "subprocess.CompletedProcess[str]":
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)


def test_every_damaged_input_is_accepted_or_refused():
    done = run_fuzz("--cases", "60", "--seed", "1", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all |" in done.stdout


@pytest.mark.parametrize(
    ("code", "message", "names", "reason"),
    [
        (0, "", (), ""),
        (2, "longtail: cannot read a.csv\n", ("a.csv",), ""),
        (2, "longtail: cannot read it\n", ("a.csv",), "does not name a.csv"),
        (2, "longtail: a.csv" + "x" * 10_000, ("a.csv",), "10,005 characters"),
        (2, "", ("a.csv",), "without a message"),
        (1, "Traceback (most recent call last):\n  ...\nKeyError: 'a'\n", (), "exit code 1:  KeyError: 'a'"),
        (0, "longtail: the report is not written: x", (), "no report"),
        (-11, "", (), "exit code -11"),
    ],
)
def test_an_outcome_is_a_fault_unless_it_is_accepted_or_refused(tmp_path, monkeypatch, code, message, names, reason):
    for name in ("data", "out", "tmp", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "tmp" / "stderr").write_text(message)
    running = object.__new__(Running)
    running.case, running.box = Case("tables", (), names), tmp_path
    running.before, running.out_before = listing(tmp_path, ("out", "tmp")), listing(tmp_path / "out")
    found = running._judge(code)
    assert (found.kind == "other") == bool(reason)
    assert reason in found.reason
    (tmp_path / "data" / "escape").write_text("")
    assert running._judge(code).kind == "other"


def test_changes_are_found(tmp_path):
    before = listing(tmp_path)
    (tmp_path / "new").write_text("1")
    with_new = listing(tmp_path)
    assert changes(before, with_new) == ["new"]
    (tmp_path / "new").write_text("2")
    assert changes(with_new, listing(tmp_path)) == ["new"]
