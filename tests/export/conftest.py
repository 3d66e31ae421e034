"""A finished run and a head on its features, which the tests read and do not change."""

from pathlib import Path

import pytest

import longtail as lt
from longtail.config import recipes
from longtail.run.fit import fit
from longtail.run.run import Run

from ..cli.calling import call


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    config = recipes.compose("digits-lt", "balanced-softmax", changes=[{"training": {"epochs": 2}}])
    return fit(config, tmp_path_factory.mktemp("export") / "run", command="longtail train", report=False)


@pytest.fixture(scope="session")
def features(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "f.npz"
    assert call("features", run.folder, "--output", path) == 0
    return path


@pytest.fixture(scope="session")
def head(features, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("export") / "head"
    return lt.train(features, "ce", epochs=1, out=folder, report=False)
