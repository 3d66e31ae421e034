"""A CUDA MPS server for the processes of a bench, so that their kernels run at the same time on one GPU.

Without it, a GPU switches between processes and runs the kernels of one at a time. The server is started with its own
pipe and log folders and stopped at the end. One that runs already is used and left alone. If no server can be started,
the processes share the GPU by switching.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
"""Program that starts and stops a server."""
PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
DEFAULT_PIPE = Path("/tmp/nvidia-mps")
"""Pipe folder of a server that was started without one."""
NOTE, PREFIX = ".mps", "longtail-mps-"
"""File in the folder of a bench with the folder of its server, and the beginning of the name of that folder."""
TIMEOUT_S = 60.0
"""Seconds in which the server, or a process that computes under it, must answer."""
PROBE = "import torch; torch.zeros(1, device='cuda').item()"

logger = logging.getLogger("longtail")

Probe = Callable[[Mapping[str, str]], str]
"""Function that computes on the GPU under an environment, and returns the reason if it cannot."""


def can_compute(environment: Mapping[str, str]) -> str:
    """Compute on the GPU in a new process.

    Args:
        environment: Environment variables of the process.

    Returns:
        The reason if it fails, otherwise an empty text.
    """
    return _run([sys.executable, "-c", PROBE], environment)


@contextmanager
def mps_server(out: Path, probe: Probe = can_compute) -> Iterator[dict[str, str]]:
    """Run a server while the context is open.

    Args:
        out: Folder of the bench, in which a server is noted that a killed bench would leave behind.
        probe: Check that the GPU can be used through the server.

    Yields:
        Environment variables for the processes. Empty if a server runs already, or none can be started.
    """
    note = out / NOTE
    _stop_left_behind(note)
    if _runs_already():
        logger.info("a CUDA MPS server runs already; the trainings use it")
        yield {}
        return
    if shutil.which(CONTROL) is None:
        logger.info("note: %s is not installed; the trainings share the GPU without a CUDA MPS server", CONTROL)
        yield {}
        return
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # short, because the path of a socket is limited
    variables = _variables(folder)
    environment = {**os.environ, **variables}
    note.write_text(str(folder), encoding="utf-8")
    try:
        reason = _start(folder, environment) or probe(environment)
        if reason:
            logger.info("note: no CUDA MPS server (%s); the trainings share the GPU without one", reason)
            _stop(folder)
        yield {} if reason else variables
    finally:
        _stop(folder)
        note.unlink(missing_ok=True)


def _runs_already() -> bool:
    return PIPE in os.environ or (DEFAULT_PIPE / "control").exists()


def _start(folder: Path, environment: Mapping[str, str]) -> str:
    for name in ("pipe", "log"):
        (folder / name).mkdir()
    return _run([CONTROL, "-d"], environment)


def _stop(folder: Path) -> None:
    """Stop the server of a folder, and remove the folder. Does nothing the second time."""
    if folder.exists():
        _run([CONTROL], {**os.environ, **_variables(folder)}, "quit\n")
        shutil.rmtree(folder, ignore_errors=True)


def _stop_left_behind(note: Path) -> None:
    """Stop the server of a bench that was killed."""
    with suppress(OSError):
        folder = Path(note.read_text("utf-8"))
        if folder.name.startswith(PREFIX):
            _stop(folder)
        note.unlink()


def _variables(folder: Path) -> dict[str, str]:
    return {PIPE: str(folder / "pipe"), LOG: str(folder / "log")}


def _run(command: list[str], environment: Mapping[str, str], text: str = "") -> str:
    """Run a program and return the last line of its errors if it fails, otherwise an empty text."""
    try:
        # output to a file: a daemon keeps a pipe open, and waiting for its end would take as long as the daemon lives
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            code = subprocess.run(
                command, env=dict(environment), input=text, encoding="utf-8", stdout=output, stderr=output,
                timeout=TIMEOUT_S, check=False,
            ).returncode  # fmt: skip
            output.seek(0)
            lines = output.read().split("\n")
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if code == 0 else next((line for line in reversed(lines) if line.strip()), f"exit code {code}")
