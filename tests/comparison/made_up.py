"""Contenders to compare: made up, small, the same every time."""

import json
from pathlib import Path
from typing import Any

import torch

from longtail.evaluation import Predictions, save_predictions
from longtail.report.classes import Classes
from longtail.report.comparison import Comparison, Contender

from ..report.conftest import RESULT

COUNTS = (300, 150, 60, 40, 9, 4)
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def predictions(lean: float, names: tuple[str, ...] = NAMES, logits: bool = True, seed: int = 0) -> Predictions:
    """A classifier that leans towards full classes; the same images whatever it leans."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor((COUNTS * len(names))[: len(names)]).sort(descending=True).values
    targets = torch.arange(len(names)).repeat_interleave(20)
    scores = torch.randn(len(targets), len(names), generator=generator) + counts.log() * lean
    scores[torch.arange(len(targets)), targets] += 2.0
    given = {"logits": scores} if logits else {"predicted": scores.argmax(1)}
    return Predictions(targets, counts, class_names=names, **given)


def told(targets: list[int], *sides: list[int], counts: tuple[int, ...] = (300, 50, 5)) -> Comparison:
    """A comparison of predicted labels, given one by one."""
    found = [Predictions(torch.tensor(targets), list(counts), predicted=torch.tensor(side)) for side in sides]
    return together(*found)


def together(*sides: Predictions, labels: tuple[str, ...] = ("one", "two", "three"), **options: Any) -> Comparison:
    contenders = tuple(
        Contender(label, Path(label), side, side.scores()) for label, side in zip(labels, sides, strict=False)
    )
    classes = Classes.grouped(sides[0].class_names, sides[0].class_counts)
    return Comparison(contenders, classes, **options)


def write_run(folder: Path, found: Predictions, **changes: Any) -> Path:
    """What a finished run leaves behind, as far as a comparison reads it."""
    folder.mkdir()
    save_predictions(folder / "predictions.npz", found)
    (folder / "result.json").write_text(json.dumps({**RESULT, "method": folder.name, **changes}))
    return folder
