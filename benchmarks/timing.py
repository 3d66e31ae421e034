"""Seconds of a piece of work on any device: what every benchmark here measures by."""

import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Wall-clock time of `run`, called a number of times, with the device waited for on both sides."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait()
    return time.perf_counter() - start
