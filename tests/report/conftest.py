"""Fixtures of the report tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longtail.evaluation import Predictions

from .made_up import RESULT, write_files


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    def write(predictions: Predictions, result: dict[str, Any] | None = None, log: str = "") -> Path:
        return write_files(tmp_path, predictions, RESULT if result is None else result, log)

    return write
