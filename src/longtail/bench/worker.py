"""Worker processes that train cells one after the other, because importing torch takes seconds.

A worker reads orders from stdin and writes answers to stdout, one line of JSON each. When stdin ends, the bench has
stopped or was killed: the worker saves its state after the current step and exits, so that no training continues
without a bench. `Worker` is the side of the bench, `main` the side of the process.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock

import longtail
from longtail._logging import log_to_stderr
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
"""File in a cell's folder with the output of its training."""
PATIENCE = 60.0
"""Seconds in which a worker must save its state once stdin has ended."""
Message = tuple["Worker", dict[str, Any] | None]
"""A worker and its answer. None: the process has ended."""


class Worker:
    """One worker process, as the bench sees it.

    Args:
        environment: Environment variables of the process, see `longtail._threads.environment`.
        messages: Queue to which its answers go.
        errors: File for its output outside of a training.
        lock: Lock file that the process holds until it ends.
        place: Number of the process among those that run at the same time, from 0.
        cores: Cores on which the process runs. Empty: all.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        messages: "queue.Queue[Message]",
        errors: Path,
        lock: Path,
        place: int = 0,
        cores: Sequence[int] = (),
    ) -> None:
        package = Path(longtail.__file__).parent.parent
        paths = [str(package), *filter(None, [environment.get("PYTHONPATH")])]
        with errors.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "longtail.bench.worker", str(lock)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                encoding="utf-8",
                env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
                # Ctrl-C must reach the bench only, which then stops its workers
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        if cores:
            with suppress(psutil.Error, OSError):  # it has no thread yet that would keep its own cores
                psutil.Process(self._process.pid).cpu_affinity(list(cores))
        self.place = place
        self.job: str | None = None
        self.ready = False
        self.retired = False
        self._peak_gb = 0.0
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def give(self, identity: str, order: dict[str, Any]) -> None:
        """Order a training. A worker takes one at a time.

        Args:
            identity: Identity of the job.
            order: Configuration, folder, start and command of the run.
        """
        self.job, self._peak_gb = identity, 0.0
        assert self._process.stdin is not None
        with suppress(OSError):  # the process has ended, which its listener reports
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def peak_memory_gb(self) -> float:
        """Return the highest resident memory of all calls since the training began, in GiB."""
        with suppress(psutil.Error):
            self._peak_gb = max(self._peak_gb, psutil.Process(self._process.pid).memory_info().rss / 2**30)
        return self._peak_gb

    def retire(self) -> None:
        """End the process, which gets no more orders: an error can leave an accelerator unusable for it."""
        self.retired = True
        self.stop()

    def stop(self) -> None:
        """Let the process save the state of its training, if it has one, and end."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Return whether the process ends within a number of seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        """Return the reason why the process ended unexpectedly, as text."""
        code = self._process.wait()
        if code == -9:
            return "its process was killed, perhaps for lack of memory (lower `memory_gb` or `jobs`)"
        return f"its process ended with {f'signal {-code}' if code < 0 else f'code {code}'}"

    def _listen(self, messages: "queue.Queue[Message]") -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            messages.put((self, json.loads(line)))
        messages.put((self, None))


def main(lock: str) -> None:
    """Train the orders from stdin until it ends.

    Args:
        lock: Lock file to hold until the process ends.
    """
    held = FileLock(lock)
    held.acquire()
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # stdout carries answers only
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    _answer(answers, {"ready": code_version()})
    data: dict[DataConfig, Dataset] = {}
    while (order := orders.get()) is not None:
        folder = Path(order["folder"])
        with _printing_to(folder / OUTPUT), log_to_stderr():
            answer = _train(order, folder, data)
        _answer(answers, answer)
        if "interrupted" in answer:
            break
    os._exit(0)  # a plain return would wait for the listening thread


def _listen(orders: queue.Queue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        orders.put(json.loads(line))
    orders.put(None)
    signal.raise_signal(signal.SIGTERM)  # within a training: save the state and stop
    threading.Event().wait(PATIENCE)
    os._exit(1)


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    with suppress(OSError):  # the bench is gone, which the end of stdin reports too
        answers.write(json.dumps(answer) + "\n")


def _train(order: dict[str, Any], folder: Path, data: dict[DataConfig, Dataset]) -> dict[str, Any]:
    """Train one cell and return the answer."""
    start = None if order["start"] is None else Path(order["start"])
    try:
        config = recipes.typed(order["config"])
        if is_taken(folder):  # begun under another plan, which may name the row differently
            config = replace(config, method=load_config(folder).method)
        _reset_peak_memory()
        loaded = _loaded(config, data)
        fit(config, folder, data=loaded, resume=True, start=start, command=order["command"], report=False)
    except Interrupted:
        return {"interrupted": True}
    except InputError as error:
        print(f"longtail: {error}", file=sys.stderr)
        return {"failed": str(error)}
    except Exception as error:  # one failed cell is reported, and the others are still trained
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}", "broken": True}
    return {"done": True}


def _loaded(config: Config, data: dict[DataConfig, Dataset]) -> Dataset:
    """Return the data set. The last one is kept, because most cells share it."""
    if config.data not in data:
        data.clear()
        data[config.data] = load_data(config.data, choose_device(config.device))
    return data[config.data]


def _reset_peak_memory() -> None:
    """Reset the peak memory that results report, so that it does not include earlier cells. Possible on Linux only."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


@contextmanager
def _printing_to(path: Path) -> Iterator[None]:
    """Append all output of the process to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = os.dup(2)
    with path.open("a", encoding="utf-8") as file:
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
    main(sys.argv[1])
