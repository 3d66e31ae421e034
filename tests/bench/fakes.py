"""Finished cells without training: predictions of a given accuracy and the result that belongs to them."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from longtail._io import write_json, write_text
from longtail.bench.results import Row
from longtail.config import recipes
from longtail.evaluation import Predictions, save_predictions
from longtail.run.run import Run

COUNTS = [500, 60, 5]
PER_CLASS = 40


@cache
def config_yaml() -> str:
    return recipes.to_yaml(recipes.compose("digits-lt", "ce"))


def finished(folder: Path, right: list[float], seed: int = 0, names: tuple[str, ...] = ("a", "b", "c"), **about: Any):
    """Write a run that classifies the share `right` of each class correctly. The seed decides which images."""
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
    write_text(folder / "config.yaml", config_yaml())
    save_predictions(folder / "predictions.npz", predictions)
    write_json(folder / "result.json", result)
    return Run(folder)


def row(folder: Path, name: str, right: list[float], seeds: int = 3, **about: Any) -> Row:
    """Return a method with a number of seeds."""
    return Row(name, {seed: finished(folder / name / str(seed), right, seed, **about) for seed in range(seeds)})
