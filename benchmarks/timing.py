"""Timing of work on any device, shared by the benchmarks."""

import time
from collections.abc import Callable

import torch


def seconds(run: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Return the wall-clock time of a number of calls, synchronized with the device before and after.

    Args:
        run: Function to time.
        device: Device of the work.
        times: Number of calls.
    """
    synchronize = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    synchronize()
    start = time.perf_counter()
    for _ in range(times):
        run()
    synchronize()
    return time.perf_counter() - start
