"""The scripts of `benchmarks/`: each prints its help, and runs at a toy size."""

import csv
import json
import sys
from pathlib import Path

import pytest

from tests.scripts import BENCHMARKS, script

# `meta.py` imports `higher`, which is not a dependency
SCRIPTS = [path for path in sorted(BENCHMARKS.glob("*.py")) if path.stem not in ("meta", "rows", "timing")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_prints_its_help(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as stop:
        script(path.stem).main()
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_rates_of_both_losses_are_learned_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = script("balms_rates")
    rates.main(["--epochs", "1", "--iterations", "6", "--out", str(tmp_path)])
    assert "Balanced Softmax: variance" in capsys.readouterr().out
    with (tmp_path / "learned-rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert [row["Softmax"] for row in rows] != [row["Balanced Softmax"] for row in rows]
    assert "variance" in (tmp_path / "learned-rates.svg").read_text()


def test_rates_can_start_from_a_finished_run(tmp_path: Path) -> None:
    rates = script("balms_rates")
    rates.main(["--epochs", "1", "--iterations", "2", "--out", str(tmp_path / "a")])
    begun = tmp_path / "a" / "balms-rates" / "backbone"
    rates.main(["--run", str(begun), "--iterations", "2", "--out", str(tmp_path / "b")])
    files = [tmp_path / name / "learned-rates.csv" for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_loop_is_compared_with_its_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = ["--steps", "1", "--rounds", "1", "--workers", "0", "--device", "cpu", "--precisions", "fp32"]
    script("loop").main([*toy, "--json", str(tmp_path / "loop.json")])
    printed = capsys.readouterr().out
    assert all(f"fp32       {side}" in printed for side in ("floor", "eager", "peers"))
    rows = json.loads((tmp_path / "loop.json").read_text())["rows"]
    assert {row["loop"]: len(row["seconds"]) for row in rows} == {"peers": 1, "floor": 1, "eager": 1}
    assert next(row["share_of_floor"] for row in rows if row["loop"] == "floor") == 1


def test_overheads_are_ratios_to_cross_entropy(capsys: pytest.CaptureFixture[str]) -> None:
    toy = ["--steps", "1", "--rounds", "1", "--classes", "10", "--device", "cpu"]
    script("overhead").main([*toy, "--only", "FocalLoss", "LDAMLoss", "ISDA"])
    printed = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in printed] == ["FocalLoss", "ISDA", "LDAMLoss"]


def test_smart_projected_onto_all_dimensions_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    scale = script("smart_scale")
    scale.error(8, (4, 8), decay=0.5, classes=6)
    lines = capsys.readouterr().out.splitlines()
    assert "unchanged" in lines[0]
    assert len(lines) == 3


def test_the_bilevel_step_learns_as_with_higher(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("higher")
    script("meta").main(["--steps", "1", "--rounds", "1", "--device", "cpu", "--skip-memory"])
    assert "the bilevel step" in capsys.readouterr().out


def test_streaming_is_compared_with_torchvision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = [
        "--sizes",
        "80x60",
        "560x520",
        "--counts",
        "4",
        "2",
        "--distinct",
        "2",
        "1",
        "--workers",
        "0",
        "--rounds",
        "1",
    ]
    script("stream").main([*toy, "--output", str(tmp_path / "stream.json")])
    assert "| 80 x 60 | longtail | 0 |" in capsys.readouterr().out
    small, large = json.loads((tmp_path / "stream.json").read_text())
    assert set(small["images_per_second"]) == {"longtail", "torchvision"}
    assert set(large["images_per_second"]) == {"longtail", "longtail, cached", "torchvision"}
