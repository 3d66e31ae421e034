"""Runs to draw: synthetic where the files suffice, trained for one epoch where images are needed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtail._io import write_text
from longtail.config import recipes
from longtail.evaluation import Predictions, save_predictions
from longtail.papers import Plot
from longtail.report.style import drawing, to_svg
from longtail.run.fit import fit

COUNTS = (300, 150, 60, 40, 9, 4)
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")
WriteRun = Callable[..., Path]


def made_up_logits(seed: int, lean: float, per_class: int = 20) -> tuple[Tensor, Tensor]:
    """Return logits of a classifier that is biased towards frequent classes, and labels."""
    generator = torch.Generator().manual_seed(seed)
    targets_N = torch.arange(len(COUNTS)).repeat_interleave(per_class)
    logits_NC = torch.randn(len(targets_N), len(COUNTS), generator=generator) + lean * torch.tensor(COUNTS).log()
    logits_NC[torch.arange(len(targets_N)), targets_N] += 2.0
    return logits_NC, targets_N


def write_run(
    folder: Path,
    method: str = "ce",
    *,
    seed: int = 0,
    lean: float = 0.4,
    logits: Tensor | None = None,
    settings: Sequence[tuple[str, Any]] = (),
    result: Mapping[str, Any] | None = None,
) -> Path:
    """Write the folder of a finished run, without a checkpoint."""
    changes = [{"seed": seed, "set": list(settings)}]
    config = recipes.compose("digits-lt", method, changes=changes)
    made_up, targets_N = made_up_logits(seed, lean)
    predictions = Predictions(targets_N, COUNTS, logits=made_up if logits is None else logits, class_names=NAMES)
    facts = {
        "data": "digits-lt",
        "split": {"name": "made-up", "sha256": "ab" * 32, "images": sum(COUNTS)},
        "method": config.method,
        "recipe": config.recipe,
        "seed": seed,
        "backbone": {"name": "small_net", "parameters": 1, "width": 32, "pretrained": False},
        "protocol": {"checkpoint": "last", "selected_on": None},
        "class_groups": {"kind": "fixed", "many": 100, "few": 20},
        "chosen": {},
        "test": predictions.scores().to_dict(),
    }
    folder.mkdir(parents=True)
    write_text(folder / "config.yaml", recipes.to_yaml(config))
    write_text(folder / "result.json", json.dumps({**facts, **(result or {})}))
    save_predictions(folder / "predictions.npz", predictions)
    return folder


def svg_of(plot: Plot) -> str:
    """Draw a figure as SVG text."""
    with drawing(plot.height) as figure:
        plot.draw(figure)
        return to_svg(figure, "x", plot.note)


@pytest.fixture
def make_run(tmp_path: Path) -> WriteRun:
    """Return a function that writes a run: `make_run("name of the folder", method, ...)`."""

    def write(name: str, method: str = "ce", **options: Any) -> Path:
        return write_run(tmp_path / name, method, **options)

    return write


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Train two methods on the digits for one epoch each."""
    folder = tmp_path_factory.mktemp("trained")
    changes = [{"training": {"epochs": 1}, "set": [("model.backbone.width", 4)]}]
    for method in ("ce", "balanced-softmax"):
        fit(recipes.compose("digits-lt", method, changes=changes), folder / method, report=False)
    return [folder / "ce", folder / "balanced-softmax"]
