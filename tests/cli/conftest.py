"""A finished run and an exported data set, which the tests read and do not change."""

from pathlib import Path

import pytest

from .calling import DIGITS, call


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert call("train", *DIGITS, "--out", folder) == 0
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "digits"
    assert call("data", "export", "digits-lt", "--target", folder) == 0
    return folder
