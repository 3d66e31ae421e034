"""Finished runs of `longtail train`, taken into a bench as results of an older version of the code."""

import shutil
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path

from longtail._io import write_json
from longtail.bench.cells import PREFIX, Cell
from longtail.evaluation.predictions import read_result
from longtail.run.folder import load_config, not_finished


def adopt(runs: Sequence[Path], out: Path, wanted: Container[str]) -> list[Path]:
    """Copy runs into the cells of a bench, where `--keep-old` finds them; one that is there already is passed over.

    Args:
        runs: folders of finished runs.
        out: folder of the bench.
        wanted: the `Cell.settings` of the plan.

    Returns:
        The runs that are none of the plan's trainings, which are not taken.

    Raises:
        InputError: if a folder holds no finished run.
    """
    cells = {run: _cell_of(run) for run in runs}
    for run, cell in cells.items():
        place = out / "cells" / f"{cell.settings[:PREFIX]}-adopted-{run.resolve().name}"
        if cell.settings in wanted and not place.exists():
            _copy(run, place, {"settings": cell.settings, "adopted_from": str(run)})
    return [run for run, cell in cells.items() if cell.settings not in wanted]


def _cell_of(run: Path) -> Cell:
    config = load_config(run)
    if not (run / "result.json").exists() or not (run / "predictions.npz").exists():
        raise not_finished(run)
    return Cell(config, read_result(run / "result.json")["split"]["sha256"], code="")


def _copy(run: Path, place: Path, about: dict[str, str]) -> None:
    """The run as a cell; whole, or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as half:
        copy = shutil.copytree(run, Path(half) / "run", ignore=shutil.ignore_patterns("report.html", "*.lock", ".*"))
        write_json(copy / "cell.json", about)
        copy.rename(place)
