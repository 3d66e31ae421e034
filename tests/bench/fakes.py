"""Finished cells made by hand: predictions as good as the test says, and the result that goes with them."""

from pathlib import Path
from typing import Any

import torch

from longtail._io import write_json
from longtail.bench.results import Outcome, Row
from longtail.evaluation import Predictions, save_predictions

COUNTS = [500, 60, 5]
PER_CLASS = 40


def outcome(folder: Path, right: list[float], seed: int = 0, names: tuple[str, ...] = ("a", "b", "c"), **about: Any):
    """A run that gets the share `right` of each class right, which images by the seed."""
    torch.manual_seed(seed)
    targets = torch.arange(3).repeat_interleave(PER_CLASS)
    hit = torch.rand(len(targets)) < torch.tensor(right)[targets]
    predicted = torch.where(hit, targets, (targets + 1) % 3)
    predictions = Predictions(targets, COUNTS, predicted=predicted, class_names=names)
    result = {
        "data": "toys",
        "imbalance_factor": 100.0,
        "split": {"name": "toy-split", "sha256": "0" * 64, "images": sum(COUNTS)},
        "recipe": "ldam",
        "seed": seed,
        "backbone": {"name": "resnet32", "parameters": 470_004, "width": 16, "pretrained": False},
        "protocol": {"checkpoint": "last", "selected_on": None},
        "class_groups": {"kind": "fixed", "many": 100, "few": 20},
        "cost": {"seconds": 12.0},
        "test": predictions.scores().to_dict(),
        **about,
    }
    folder.mkdir(parents=True)
    save_predictions(folder / "predictions.npz", predictions)
    write_json(folder / "result.json", result)
    return Outcome(folder, result)


def row(folder: Path, name: str, right: list[float], seeds: int = 3, **about: Any) -> Row:
    """A method with so many seeds."""
    outcomes = {seed: outcome(folder / name / str(seed), right, seed, **about) for seed in range(seeds)}
    return Row(name, outcomes)
