"""The sample rates of BALMS draw themselves (supplement, Fig. 1)."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from longtail.models.classifier import build_classifier
from tests.scripts import script


def test_the_learnt_rates_draw_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = script("balms_rates")

    def untrained(_: Any, data: Any, config: Any) -> nn.Module:
        return build_classifier(config.model, data, 0)

    monkeypatch.setattr(rates, "backbone", untrained)
    monkeypatch.setattr(sys, "argv", ["balms_rates.py", "--iterations", "6", "--out", str(tmp_path)])
    rates.main()
    numbers = json.loads((tmp_path / "balms-rates.json").read_text())
    assert {name: len(values) for name, values in numbers.items()} == {"Softmax": 10, "Balanced Softmax": 10}
    assert numbers["Softmax"] != numbers["Balanced Softmax"]
    assert "variance" in (tmp_path / "balms-rates.svg").read_text()
    assert (tmp_path / "balms-rates.png").exists()
    assert "Balanced Softmax   variance" in capsys.readouterr().out
