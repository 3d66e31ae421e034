"""Every example runs and prints what it says."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PRINTED = {
    "balanced_sampler.py": "the same order: True",
    "compare_methods.py": "balanced-softmax   few-shot accuracy",
    "evaluate_predictions.py": "backward, 50 : 1",
    "one_loss.py": "Balanced Softmax",
    "own_images.py": "balanced-softmax: the fullest class",
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_example_runs(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert PRINTED[path.name] in capsys.readouterr().out
