"""A process that trains one cell after the other: importing torch takes seconds, so it is done once.

It reads orders from stdin and writes answers to stdout, a line of JSON each. When stdin ends, whoever gave the orders
is gone, killed perhaps: it saves the state after the current step and stops, so that nobody trains on unseen.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from longtail.bench.cells import code_version
from longtail.config import recipes
from longtail.config.schema import Config, DataConfig
from longtail.data.dataset import Dataset
from longtail.data.load import load_data
from longtail.errors import InputError
from longtail.run.fit import choose_device, fit
from longtail.run.folder import is_taken, load_config
from longtail.training.context import Interrupted

OUTPUT = "output.txt"
"""In a cell's folder: what its training printed."""
PATIENCE = 20.0  # seconds for a state to be saved, once there is nobody left to work for


def main() -> None:
    """Train what stdin asks for, until it ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # stdout carries answers only
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    _answer(answers, {"ready": code_version()})
    data: dict[DataConfig, Dataset] = {}
    while (order := orders.get()) is not None:
        folder = Path(order["folder"])
        with _printing_to(folder / OUTPUT):
            answer = _train(order, folder, data)
        _answer(answers, answer)
        if "interrupted" in answer:
            break
    os._exit(0)  # the thread that listens would be waited for


def _listen(orders: queue.Queue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    orders.put(None)
    os.kill(os.getpid(), signal.SIGTERM)  # in a training: save the state and stop
    threading.Event().wait(PATIENCE)
    os._exit(1)


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):  # nobody is left to hear it; the end of stdin says so, too
        answers.write(json.dumps(answer) + "\n")


def _train(order: dict[str, Any], folder: Path, data: dict[DataConfig, Dataset]) -> dict[str, Any]:
    """Train one cell, and say how it ended."""
    start = None if order["start"] is None else Path(order["start"])
    try:
        config = recipes.typed(order["config"])
        if is_taken(folder):  # begun under the name of another plan's row
            config = replace(config, method=load_config(folder).method)
        _forget_peak_memory()
        loaded = _loaded(config, data)
        fit(config, folder, data=loaded, resume=True, start=start, command=order["command"], report=False)
    except Interrupted:
        return {"interrupted": True}
    except InputError as error:
        print(f"longtail: {error}", file=sys.stderr)
        return {"failed": str(error)}
    except Exception as error:  # one failed cell is reported, and the rest go on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"done": True}


def _loaded(config: Config, data: dict[DataConfig, Dataset]) -> Dataset:
    """The data set, of which the last is kept: most cells share it."""
    if config.data not in data:
        data.clear()
        data[config.data] = load_data(config.data, choose_device(config.device))
    return data[config.data]


def _forget_peak_memory() -> None:
    """The peak that a result names is to be its own, not that of a cell before; only Linux can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Within, all that the process prints goes into a file, on to what is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(2)
    with path.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(before, 1)
        os.dup2(before, 2)
        os.close(before)


if __name__ == "__main__":
    main()
