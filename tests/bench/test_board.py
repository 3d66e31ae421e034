"""What a person sees while a bench runs."""

import json
import time

import pytest
from rich.console import Console

from longtail.bench.board import LiveProgress, terminal_table
from longtail.bench.budget import budget
from longtail.bench.cells import cells_of, jobs_for
from longtail.bench.plan import parse_plan
from longtail.bench.runner import Runner
from longtail.bench.table import build_table
from tests.bench.fakes import row


@pytest.fixture
def board(tmp_path):
    """Cross-entropy is done, cRT runs in its second stage, the third has failed."""
    plan = parse_plan("mine", {"data": "digits-lt", "methods": ["ce", "crt", "focal"], "seeds": 1})
    jobs = jobs_for([cell for _, _, cell in cells_of(plan)])
    done, running, failed = jobs
    for identity in (done, running):
        jobs[identity].cell.folder(tmp_path).mkdir(parents=True)
    scores = {"test": {"top1": 61.26, "few": None}}
    (jobs[done].cell.folder(tmp_path) / "result.json").write_text(json.dumps(scores))
    (jobs[running].cell.folder(tmp_path) / "log.jsonl").write_text('{"stage": 1, "epoch": 4}\n')
    progress = Runner(jobs, tmp_path, budget(1, 8.0)).progress
    progress.states |= {running: "running", failed: "failed"}
    progress.began[running] = time.monotonic() - 65
    progress.failures[failed] = "out of luck (see output.txt)"
    return LiveProgress(progress, {"ce [x]": [done], "crt": [running], "focal": [failed]}), (done, running, failed)


def drawn(picture) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(picture)
    return captured.get()


def test_the_picture_has_what_is_done_what_runs_and_the_means(board):
    text = drawn(board[0]._render())
    assert "1 of 3 done, 1 running, 1 failed" in text
    assert "crt on digits-lt IF 20, seed 0" in text
    assert "stage 2, epoch 5" in text
    assert "1:05" in text
    assert "ce [x]" in text  # a name is no markup
    assert "1/1" in text
    assert "61.3" in text


def test_where_nobody_watches_there_is_a_line_for_each_training(board, capsys):
    shown, (done, _, failed) = board
    with shown:
        shown.update(done)
        shown.update(None)
        shown.update(failed)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("3 trainings: ")
    assert lines[1] == "[2/3] ce on digits-lt IF 20, seed 0: 61.3 all, \N{EN DASH} few"
    assert lines[2] == "[2/3] focal on digits-lt IF 20, seed 0: failed: out of luck (see output.txt)"
    assert len(lines) == 3


def test_the_table_for_a_terminal_keeps_the_names_and_the_notes(tmp_path):
    rows = [row(tmp_path, "ce", [0.9, 0.9, 0.2]), row(tmp_path, "a rather long name of a row", [0.9, 0.9, 0.95])]
    text = drawn(terminal_table(build_table(rows, ("top1", "many", "few", "mcc", "ece"), "ce", ["mind the gap"])))
    assert "a rather long name of a row" in text
    assert "all, less ce" in text
    assert "mind the gap" in text
    assert "]*" in text
