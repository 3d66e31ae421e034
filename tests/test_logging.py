"""Messages and progress on stderr."""

import logging
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from longtail import _logging
from longtail._logging import log_to_stderr, progress_bar

LOGGER = logging.getLogger("longtail")


def test_messages_go_to_stderr_with_the_prefix_of_their_level(capsys):
    with log_to_stderr():
        LOGGER.debug("hidden")
        LOGGER.info("training %s", "[ce]")
        LOGGER.warning("two balanced parts")
        LOGGER.error("lost")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "training [ce]\nwarning: two balanced parts\nerror: lost\n"


def test_the_logger_is_left_as_it_was():
    before = (LOGGER.level, LOGGER.propagate, list(LOGGER.handlers))
    with log_to_stderr(logging.DEBUG):
        assert LOGGER.isEnabledFor(logging.DEBUG)
    assert (LOGGER.level, LOGGER.propagate, LOGGER.handlers) == before


def test_the_library_is_silent_by_default():
    code = "import logging, longtail; logging.getLogger('longtail').warning('unheard')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds, which a test sets, and stderr that is no terminal."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(_logging, "console", Console(stderr=True, force_terminal=False, **_logging.PLAIN))
    return now


def test_off_a_terminal_a_line_every_30_seconds_tells_the_progress(clock, capsys):
    with (
        log_to_stderr(),
        progress_bar("training", total=100, start=10, images_per_unit=64, unit="step") as bar,
    ):
        for step in range(1, 81):
            clock[0] += 1.0
            bar.note(f"epoch {1 + step // 50}/2  loss 0.500")
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"training: epoch 1/2, loss 0.500, step 40 of 100 \(40 %\), 64 images/s, expected end .*\d\d:\d\d.*", lines[0]
    )
    assert lines[1].startswith("training: epoch 2/2, loss 0.500, step 70 of 100 (70 %), 64 images/s, expected end ")


def test_a_short_activity_logs_no_line(clock, capsys):
    with log_to_stderr(), progress_bar("testing", total=10, images_per_unit=1) as bar:
        for _ in range(10):
            clock[0] += 2.9
            bar.advance()
    assert capsys.readouterr().err == ""


def test_a_callback_with_an_unknown_total_logs_what_is_done(clock, capsys):
    with log_to_stderr(), progress_bar("downloading", total=1) as bar:
        clock[0] += 31
        bar.moved_to(5000, None)
        clock[0] += 31
        bar.moved_to(10_000, 20_000)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "downloading: 5,000"
    assert second.startswith("downloading: 10,000 of 20,000 (50 %), expected end ")


def test_a_bar_within_a_bar_logs_its_own_lines(clock, capsys):
    with log_to_stderr(), progress_bar("training", total=2, unit="step") as outer:
        with progress_bar("evaluating", total=100, images_per_unit=1) as inner:
            clock[0] += 40
            inner.advance(20)
        clock[0] += 1
        outer.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("evaluating: 20 of 100 (20 %), 0.5 images/s, expected end ")
    assert second.startswith("training: step 1 of 2 (50 %), expected end ")


def test_a_terminal_shows_images_per_second_and_logs_no_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(_logging, "console", Console(stderr=True, force_terminal=True, width=150, **_logging.PLAIN))
    with log_to_stderr(), progress_bar("training", total=4, images_per_unit=8) as bar:
        for _ in range(3):
            clock[0] += 40
            bar.advance()
        bar._progress.refresh()
    shown = capsys.readouterr().err
    assert "images/s" in shown
    assert "expected end" not in shown
