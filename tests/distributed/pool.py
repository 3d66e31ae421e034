"""Two processes as ranks 0 and 1 of a gloo group, started once since importing torch takes seconds."""

import multiprocessing
import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

WORLD_SIZE = 2
PATIENCE = 120.0  # seconds for one call; the first includes the start of the processes


class Pool:
    """Pool that runs functions on all ranks at once.

    Args:
        folder: Empty folder for the rendezvous of the ranks.
    """

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit dead threads of torch
        self._pipes, self._processes = [], []
        for rank in range(WORLD_SIZE):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder / "meeting-point"), there), daemon=True)
            process.start()
            there.close()  # a dead rank then closes the pipe
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Run `function(rank, *arguments)` on each rank and return the results in order of rank.

        Args:
            function: Function at the top level of an importable module.
            arguments: Arguments, the same for all ranks.
        """
        # pickled explicitly: the pickler of the pipe would pass tensors as open files, which end with their rank
        message = pickle.dumps((function, arguments))
        for pipe in self._pipes:
            pipe.send_bytes(message)
        answers = [
            pickle.loads(pipe.recv_bytes()) if pipe.poll(PATIENCE) else (False, "no answer") for pipe in self._pipes
        ]
        failed = [f"rank {rank}: {value}" for rank, (succeeded, value) in enumerate(answers) if not succeeded]
        if failed:
            raise AssertionError("\n".join(failed))
        return [value for _, value in answers]

    def close(self) -> None:
        """End the processes."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.close()
            process.join(timeout=10)
            process.kill()


def _serve(rank: int, meeting_point: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=WORLD_SIZE)
    while True:
        try:
            function, arguments = pickle.loads(pipe.recv_bytes())
        except EOFError:  # the other end is closed: done
            break
        try:
            answer = (True, function(rank, *arguments))
        except Exception:
            answer = (False, traceback.format_exc())
        pipe.send_bytes(pickle.dumps(answer))
    distributed.destroy_process_group()
