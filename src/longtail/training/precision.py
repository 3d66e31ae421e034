"""Choice of precision and memory layout where the settings leave them to the device."""

import dataclasses
import logging
import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn

from longtail.config.schema import TrainingConfig
from longtail.training.context import Context
from longtail.training.step import Step

logger = logging.getLogger("longtail")

BF16_FLAGS = {"amx_bf16", "avx512_bf16", "amx_tile"}
"""Names in /proc/cpuinfo of the instructions that multiply matrices of bf16."""


def resolve_precision(settings: TrainingConfig, step: Step, context: Context) -> TrainingConfig:
    """Return the settings with a definite precision and memory layout, which the context records.

    A choice is logged.

    A resumed stage keeps those that its checkpoint records, so that it continues with the same arithmetic.

    Args:
        settings: Settings of a stage.
        step: Model and loss of the stage.
        context: Run state.
    """
    recorded = context.compute.setdefault(str(context.stage), {})
    precision, channels_last = settings.precision, settings.channels_last
    if precision == "auto":
        native = step.backbone != "skip" and computes_bf16(context.device)
        precision = recorded.get("precision", "bf16" if native else "fp32")
    if channels_last is None:
        faster = step.backbone != "skip" and channels_last_is_faster(context.device, step.model.backbone)
        channels_last = recorded.get("channels_last", faster)
    is_chosen = settings.precision == "auto" or settings.channels_last is None
    if step.backbone != "skip" and is_chosen and "precision" not in recorded:
        logger.info("%s", _described(settings, precision, channels_last, context.device))
    recorded |= {"precision": precision, "channels_last": channels_last}
    return dataclasses.replace(settings, precision=precision, channels_last=channels_last)


@cache
def computes_bf16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bf16 natively.

    These are CUDA devices from compute capability 8.0, and CPUs with AMX or AVX512-BF16.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    probes = [getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    if all(probes):
        return any(probe() for probe in probes if probe is not None)
    return bool(_cpu_flags() & BF16_FLAGS)


def channels_last_is_faster(device: torch.device, backbone: nn.Module) -> bool:
    """Return whether the channels-last layout is faster: for convolutional backbones, on CUDA or an x86 CPU."""
    fast = device.type == "cuda" or (device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64"))
    return fast and any(isinstance(module, nn.Conv2d) for module in backbone.modules())


def _cpu_flags() -> set[str]:
    """Return the instruction sets of the CPU by their names in Linux; none on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}


def _described(settings: TrainingConfig, precision: str, channels_last: bool, device: torch.device) -> str:
    chosen = f"precision: {precision}, {'channels-last' if channels_last else 'contiguous'}"
    if settings.precision != "auto":
        return f"{chosen} (the precision is set by the recipe or the user)"
    name = "CPU" if device.type == "cpu" else "device"
    return f"{chosen} (this {name} {'computes' if precision == 'bf16' else 'does not compute'} bf16 natively)"
