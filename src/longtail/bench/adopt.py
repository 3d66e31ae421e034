"""Finished runs of `longtail train`, taken into a bench as results of an older version of the code."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from longtail.bench.cells import PREFIX, Cell
from longtail.errors import InputError
from longtail.evaluation.result_file import read_result
from longtail.files import write_json
from longtail.folder import load_config


def adopt(runs: Sequence[Path], out: Path) -> None:
    """Copy runs into the cells of a bench, where `--keep-old` finds them; one that is there already is passed over.

    Args:
        runs: folders of finished runs.
        out: folder of the bench.

    Raises:
        InputError: if a folder holds no finished run.
    """
    for run in runs:
        if not (run / "result.json").exists() or not (run / "predictions.npz").exists():
            raise InputError(f"the run in {run} is not finished; go on with: longtail train --resume --out {run}")
    for run in runs:
        result = read_result(run / "result.json")
        cell = Cell(load_config(run), result["split"]["sha256"], code="")
        place = out / "cells" / f"{cell.settings[:PREFIX]}-adopted-{run.resolve().name}"
        if not place.exists():
            _copy(run, place, {"settings": cell.settings, "adopted_from": str(run)})


def _copy(run: Path, place: Path, about: dict[str, str]) -> None:
    """The run as a cell; whole, or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as half:
        copy = shutil.copytree(run, Path(half) / "run", ignore=shutil.ignore_patterns("report.html", "*.lock", ".*"))
        write_json(copy / "cell.json", about)
        copy.rename(place)
