"""The processes that train, seen from the one that gives the orders."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import longtail

Message = tuple["Worker", dict[str, Any] | None]
"""A worker and what it answered; None: it has ended."""


class Worker:
    """One process of `longtail.bench.worker`.

    Args:
        threads: that it may compute with.
        messages: where its answers go.
        errors: a file for what it prints outside of a training.
        lock: an open file that it keeps open: its lock lasts until the last worker has ended.
    """

    def __init__(self, threads: int, messages: "queue.Queue[Message]", errors: Path, lock: IO[str]) -> None:
        package = Path(longtail.__file__).parent.parent
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        count = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with errors.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "longtail.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **count, "PYTHONPATH": os.pathsep.join(paths)},
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C reaches the one that gives the orders, who passes it on
            )
        self.job: str | None = None
        self.ready = False
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def give(self, identity: str, order: dict[str, Any]) -> None:
        """Order a training; one at a time."""
        self.job = identity
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its listener will say
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def peak_memory_gb(self) -> float:
        """The most memory it has had since the training began; 0 where the system does not tell."""
        with suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20
        return 0.0

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """Ask it to save the state and stop; SIGKILL makes it."""
        if self._process.poll() is None:
            self._process.send_signal(signum)

    def dismiss(self) -> None:
        """Let it end, as there is nothing left to do."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within that time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def how_it_ended(self) -> str:
        """In words, for a worker that has ended unasked."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed, for want of memory perhaps (try --memory-gb or fewer --jobs)"
        return f"its process ended with {f'signal {-code}' if code < 0 else f'code {code}'}"

    def _listen(self, messages: "queue.Queue[Message]") -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            messages.put((self, json.loads(line)))
        messages.put((self, None))
