"""Run state shared with stages: seed, device, checkpoint store and log."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

from longtail.training.checkpoint import CheckpointStore
from longtail.training.log import RunLog

logger = logging.getLogger("longtail")


class Interrupted(Exception):  # noqa: N818 - a request of the user, not an error
    """Stop on request of the user. The state is saved; the command line exits with code 130."""


@dataclass
class Context:
    """Run state as a stage sees it.

    Args:
        seed: Seed of the run.
        stage: Index of the stage, from 0.
        split: SHA-256 of the training split. A checkpoint of other data has another one.
        device: Device of the model.
        store: Store of the checkpoints.
        log: Log of the epochs.
        saved: Checkpoint to continue from, if it was written within this stage.
        watch: Part that is evaluated after each epoch: "val", "test" (the paper protocol) or None.
        seconds: Training time so far.
        images: Images trained on in that time.
        stop: Set when the user requests a stop.
        compute: Precision, memory layout and engine of each stage that has trained, by its index as a string.
        engine: Engine of the training steps; "auto" lets the device decide.
        estimate: Function called once in a stage with its images per second and the seconds that the rest will take.
        checkpoint_seconds: Seconds between two checkpoints within a stage; 0 writes one after each epoch.
        chosen: What stages have chosen on held-out training images or learned in addition to the model, for the result.
        cache: Values that a stage has computed and later stages may use, such as features.
    """

    seed: int
    stage: int
    split: str
    device: torch.device
    store: CheckpointStore
    log: RunLog
    saved: dict[str, Any] | None = None
    watch: str | None = None
    seconds: float = 0.0
    images: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    compute: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: str = "auto"
    estimate: Callable[[float, float], None] | None = None
    checkpoint_seconds: float = 60.0
    chosen: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    def add_time(self, seconds: float, images: int) -> None:
        """Add finished training to the totals."""
        self.seconds += seconds
        self.images += images

    def place(self) -> dict[str, Any]:
        """Return the part of a checkpoint that all stages share: position, cost so far, and choices."""
        return {
            "stage": self.stage,
            "split": self.split,
            "seconds": self.seconds,
            "images": self.images,
            "chosen": self.chosen,
            "compute": self.compute,
            "threads": torch.get_num_threads(),
        }


@contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on Ctrl-C and SIGTERM, so that the state can be saved. A second signal stops at once.

    Args:
        stop: Event that the training loop checks after every step.
    """

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        logger.info("stopping: saving the state after this step (again to stop at once)")

    if threading.current_thread() is not threading.main_thread():  # signal handlers belong to the main thread
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
