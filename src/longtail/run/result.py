"""Content of `result.json`: what was done, on which data, the scores and the cost."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from longtail.config.convert import to_mapping
from longtail.config.schema import Config
from longtail.data.dataset import Dataset
from longtail.evaluation import Scores
from longtail.models.classifier import Classifier, describe_backbone
from longtail.models.sources import library_of
from longtail.training.context import Context
from longtail.version import __version__


def describe_run(
    model: Classifier, data: Dataset, config: Config, context: Context, scores: Scores, command: str
) -> dict[str, Any]:
    """Return the content of `result.json`.

    Args:
        model: Trained model.
        data: Data set.
        config: Configuration of the run.
        context: Run state, with the time spent and the choices made.
        scores: Scores of the test split.
        command: Command of the user.
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
        "compute": context.compute,
        "class_groups": {"kind": config.groups, "many": config.many, "few": config.few},
        "test": scores.to_dict(),
        "cost": describe_cost(context),
        "versions": describe_versions(),
        "notes": [*data.load_report.notes, *stage_warnings(config)],
        "skipped": data.load_report.skipped,
        "duplicates": data.load_report.duplicates,
        "command": command,
    }


def stage_warnings(config: Config) -> list[str]:
    """Return the warnings of all stages, each with the index of its stage, and of a backbone that is never trained."""
    return [
        *_untrained_backbone(config),
        *(f"stage {index} {text}" for index, stage in enumerate(config.stages) for text in stage.warnings()),
    ]


def _untrained_backbone(config: Config) -> list[str]:
    """Return a warning if a head is solved on the features of random weights."""
    model = config.model
    is_own = library_of(model.backbone.name) in ("module", "") or model.backbone.name == "FeatureBackbone"
    if is_own or model.pretrained or model.weights or any(stage.training_settings() for stage in config.stages[:1]):
        return []
    return [
        f"the head is trained on features of {model.backbone.name} with random weights, which costs accuracy; set "
        "`pretrained` to true, give `weights`, or choose a method that trains the backbone, such as bs-decoupled-solved"
    ]


def describe_cost(context: Context) -> dict[str, Any]:
    """Return the time, speed, memory and device of a run.

    Args:
        context: Run state.
    """
    return {
        "seconds": round(context.seconds, 2),
        "images_per_second": round(context.images / context.seconds, 1) if context.seconds else None,
        "peak_memory_mb": _peak_memory_mb(context.device),
        "device": _describe(context.device),
    }


def describe_versions() -> dict[str, Any]:
    """Return the versions of this package and of torch, and the commit of a source checkout."""
    return {"longtail": __version__, "torch": torch.__version__, "commit": _commit()}


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        peak_bytes: int = getattr(psutil.Process().memory_info(), "peak_wset", 0)
        return round(peak_bytes / 2**20, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} of {os.cpu_count()} cores"


def _commit() -> str | None:
    """Return the commit of a source checkout, or None for an installed package."""
    here = Path(__file__).resolve().parent
    if not (here.parents[2] / "pyproject.toml").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode().strip()
