"""What a stage may know of the run it is part of: seed, device, where to save, whom to tell."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch

from longtail._logging import console
from longtail.training.checkpoint import CheckpointStore
from longtail.training.log import RunLog


class Interrupted(Exception):  # noqa: N818 - not an error: the user's wish
    """The user asked to stop and the state is saved; the command line exits with 130."""


@dataclass
class Context:
    """The run, as a stage sees it.

    Args:
        seed: of the run.
        stage: index of the stage, from 0.
        split: SHA-256 of the split, which a checkpoint of other data would not share.
        device: where the model lives.
        store: where checkpoints go.
        log: where the epochs' rows go.
        saved: the checkpoint to go on from, where it was written within this stage.
        watch: what is scored after each epoch: "val", "test" (the paper protocol) or nothing.
        seconds: training time that lies behind.
        images: images trained on in that time.
        stop: set when the user wants to stop.
        chosen: what stages have chosen on held-out training images, or learnt beside the model, for the result.
        cache: what a stage has computed and later ones may use again, such as features.
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
    chosen: dict[str, Any] = field(default_factory=dict)
    cache: dict[str, Any] = field(default_factory=dict)

    def add_time(self, seconds: float, images: int) -> None:
        """Account for training that has been done."""
        self.seconds += seconds
        self.images += images

    def place(self) -> dict[str, Any]:
        """What every checkpoint says of the run: which stage, what it has cost so far, and what was chosen."""
        return {
            "stage": self.stage,
            "split": self.split,
            "seconds": self.seconds,
            "images": self.images,
            "chosen": self.chosen,
        }


@contextmanager
def stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM set `stop` so that the state can be saved; a second Ctrl-C stops at once."""

    def ask(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("stopping: saving the state after this step (again to stop at once)")

    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
