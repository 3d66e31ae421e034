"""Runs of `longtail train` in the table of a bench."""

import shutil

import pytest

from longtail.bench.adopt import adopt
from longtail.bench.cells import Cell
from longtail.bench.results import older_cells, outcome_of
from longtail.config import recipes
from longtail.errors import InputError
from longtail.run.fit import fit


def config(method: str = "ce", seed: int = 0):
    small = {"set": [("model.backbone.width", 4)]}
    return recipes.compose("digits-lt", method, changes=[{"seed": seed, "training": {"epochs": 1}}, small])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(config(), tmp_path_factory.mktemp("runs") / "mine")


def test_an_adopted_run_stands_in_for_the_cell_of_its_settings_and_for_no_other(run, tmp_path):
    split = run.result["split"]["sha256"]
    wanted = {Cell(config(), split, "now").settings}
    assert adopt([run.folder, run.folder], tmp_path, wanted) == []
    older = older_cells(tmp_path)
    outcome = outcome_of(Cell(config(), split, "now"), tmp_path, older)
    assert outcome.older
    assert outcome.result == run.result
    assert outcome_of(Cell(config(), split, "now"), tmp_path) is None  # only where older code will do
    for other in (Cell(config(seed=1), split, "now"), Cell(config("focal"), split, "now"), Cell(config(), "x", "now")):
        assert outcome_of(other, tmp_path, older) is None
    assert [path.name[-13:] for path in (tmp_path / "cells").iterdir()] == ["-adopted-mine"]


def test_a_run_that_the_plan_does_not_ask_for_is_named_and_not_taken(run, tmp_path):
    wanted = {Cell(config(seed=1), run.result["split"]["sha256"], "now").settings}
    assert adopt([run.folder], tmp_path / "bench", wanted) == [run.folder]
    assert not (tmp_path / "bench").exists()


def test_a_run_that_is_not_finished_is_refused_and_nothing_is_taken(run, tmp_path):
    wanted = {Cell(config(), run.result["split"]["sha256"], "now").settings}
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run.folder / "config.yaml", begun)
    for folder, words in ((begun, "is not finished; go on with"), (tmp_path / "nothing", "holds no run")):
        with pytest.raises(InputError, match=words):
            adopt([run.folder, folder], tmp_path / "bench", wanted)
    assert not (tmp_path / "bench").exists()
