"""What `result.json` says of a run: what was done, on what, what came of it, and what it cost."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from longtail.config.convert import to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.evaluation import Scores
from longtail.models.classifier import Classifier, describe_backbone
from longtail.stages.guard import balanced_twice
from longtail.training.context import Context
from longtail.version import __version__


def describe_run(
    model: Classifier, data: Dataset, config: Config, context: Context, scores: Scores, command: str
) -> dict[str, Any]:
    """The content of `result.json`.

    Args:
        model: as trained.
        data: what it was trained on.
        config: of the run.
        context: of the run, which knows the time spent and what was chosen.
        scores: of the test part.
        command: what the user typed.
    """
    selected_on = "test" if config.protocol == "paper" else None
    return {
        "data": config.data.shown_as,
        "imbalance_factor": data.imbalance_factor,
        "split": to_mapping(data.split),
        "method": config.method,
        "recipe": config.recipe,
        "seed": config.seed,
        "backbone": describe_backbone(config.model, model),
        "protocol": {"checkpoint": "best" if selected_on else "last", "selected_on": selected_on},
        "chosen": context.chosen,
        "class_groups": {"kind": config.groups, "many": config.many, "few": config.few},
        "test": scores.to_dict(),
        "cost": {
            "seconds": round(context.seconds, 2),
            "images_per_second": round(context.images / context.seconds, 1) if context.seconds else None,
            "peak_memory_mb": _peak_memory_mb(context.device),
            "device": _describe(context.device),
        },
        "versions": {"longtail": __version__, "torch": torch.__version__, "commit": _commit()},
        "notes": [*data.load_report.notes, *balanced_twice(config.stages)],
        "skipped": data.load_report.skipped,
        "duplicates": data.load_report.duplicates,
        "command": command,
    }


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def _commit() -> str | None:
    """The commit of a source checkout; None for an installed package, whatever repository it lies in."""
    here = Path(__file__).resolve().parent
    if not (here.parent.parent / "pyproject.toml").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
