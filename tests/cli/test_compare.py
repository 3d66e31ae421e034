"""`longtail compare`."""

from pathlib import Path

import pytest

from ..report.made_up import predictions, write_run
from .calling import call


def test_it_prints_the_short_of_it_and_writes_page_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [write_run(tmp_path / name, predictions(lean)) for name, lean in (("ce", 0.6), ("balms", -0.2))]
    output, table = tmp_path / "page.html", tmp_path / "classes.csv"
    assert call("compare", *runs, "--output", output, "--table", table) == 0
    shown = capsys.readouterr()
    assert "63.3" in shown.out
    assert shown.out.endswith(f"comparison: {output}\ntable: {table}\n")
    assert "note: no example images: the test images have changed since" in shown.err
    assert "Largest gains" in output.read_text("utf-8")
    assert len(table.read_text().splitlines()) == 7


def test_files_alone_need_no_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lean in (("ce", 0.6), ("balms", -0.2)):
        write_run(tmp_path / name, predictions(lean))
        (tmp_path / name / "predictions.npz").rename(tmp_path / f"{name}.npz")
    assert call("compare", "ce.npz", "balms.npz", "--table", "classes.csv", "--many", "200") == 0
    shown = capsys.readouterr()
    assert "balms against ce: largest gains and losses" in shown.out
    assert "comparison: comparison.html" in shown.out
    assert "warning: ce is a file of predictions" in shown.err
    assert "more than 200 training images" in Path("comparison.html").read_text("utf-8")
    assert len(Path("classes.csv").read_text().splitlines()) == 7


def test_real_runs_show_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method in ("ce", "balanced-softmax"):
        assert call("train", "digits-lt", "--method", method, "--epochs", 1, "--out", tmp_path / method) == 0
    runs = (tmp_path / "ce", tmp_path / "balanced-softmax")
    assert call("compare", *runs, "--output", tmp_path / "page.html") == 0
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("data:image/png") > 0
    assert "balanced-softmax against ce on digits-lt" in text


def test_what_can_not_be_compared_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "ce", predictions(0.6))
    assert call("compare", run) == 2
    assert "a comparison takes 2 to 8 runs or prediction files" in capsys.readouterr().err
    assert call("compare", run, tmp_path / "none.csv") == 2
    assert "no predictions at" in capsys.readouterr().err


def test_runs_are_named_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, predictions(lean)) for name, lean in (("ce", 0.6), ("balms", -0.2))]
    page = tmp_path / "page.html"
    assert call("compare", *runs, "--names", "plain", "[balanced]", "--output", page) == 0
    assert "[balanced] against plain: largest gains and losses" in capsys.readouterr().out
    assert "[balanced]" in page.read_text("utf-8")
    assert call("compare", *runs, "--names", "plain", "--output", page) == 2
    assert "`names` must be 2 distinct names, one per side, got plain" in capsys.readouterr().err
