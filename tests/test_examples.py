"""Every example runs and prints its result."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PRINTED = {
    "balanced_sampler.py": "same order: True",
    "compare_methods.py": "balanced-softmax   few-shot accuracy",
    "evaluate_predictions.py": "backward, 50 : 1",
    "one_loss.py": "Balanced Softmax",
    "own_images.py": "'0'",
}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Run in a folder with `photos/`, the embedded digits as PNG files."""
    import torch

    from longtail.config.schema import DataConfig
    from longtail.data.export import export_dataset
    from longtail.data.load import load_data

    export_dataset(load_data(DataConfig(), torch.device("cpu")), tmp_path / "photos")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, capsys, monkeypatch, photos):
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert PRINTED[path.name] in capsys.readouterr().out
