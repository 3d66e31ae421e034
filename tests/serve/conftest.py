"""A finished run, which the tests read and do not change."""

import pytest

pytest.importorskip("fastapi", reason="the packages of the extra serve are not installed")
pytest.importorskip("uvicorn", reason="the packages of the extra serve are not installed")
pytest.importorskip("python_multipart", reason="the packages of the extra serve are not installed")

from longtail.config import recipes
from longtail.run.fit import fit
from longtail.run.run import Run


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    config = recipes.compose("digits-lt", "balanced-softmax", changes=[{"training": {"epochs": 2}}])
    return fit(config, tmp_path_factory.mktemp("serve") / "run", command="longtail train", report=False)
