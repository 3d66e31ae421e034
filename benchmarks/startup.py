"""Seconds from the start of a command to its first result.

    python benchmarks/startup.py [--rounds 5] [--output startup.jsonl]

Three commands run in new processes, in turn within every round: `import longtail`, `longtail --help`, and
`longtail train` on the embedded example until the first epoch of one step is logged. Medians over the rounds are
printed, next to the goals. `seconds` is the wall-clock time. `cpu` is the processor time of the process, which hardly
depends on what else the machine does.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from rows import add_row, commit, load

POLL_S = 0.005
PATIENCE_S = 300.0
COMMAND = [sys.executable, "-m", "longtail"]


def finished(command: list[str]) -> tuple[float, float]:
    """Return wall-clock and processor seconds of a command."""
    before, start = _cpu_of_children(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _cpu_of_children() - before


def first_step() -> tuple[float, float]:
    """Return the seconds of `longtail train` until its first step, including the log of the epoch, is done."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        start = time.perf_counter()
        process = psutil.Popen(
            [*COMMAND, "train", "--batch-size", "1000", "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            while not _logged(out):
                if process.poll() is not None or time.perf_counter() - start > PATIENCE_S:
                    raise RuntimeError(f"`longtail train` made no step: {process.stderr.read().decode()}")
                time.sleep(POLL_S)
            times = process.cpu_times()
            return time.perf_counter() - start, times.user + times.system
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


CASES: dict[str, tuple[Callable[[], tuple[float, float]], float]] = {
    "import longtail": (lambda: finished([sys.executable, "-c", "import longtail"]), 0.3),
    "longtail --help": (lambda: finished([*COMMAND, "--help"]), 0.3),
    "longtail train, first step": (first_step, 3.0),
}
"""What to time, and its goal in seconds on idle cores."""


def _logged(out: Path) -> bool:
    log = out / "log.jsonl"
    return log.exists() and log.stat().st_size > 0


def _cpu_of_children() -> float:
    times = psutil.Process().cpu_times()
    return times.children_user + times.children_system


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="file of JSON lines to append to, with a Markdown table next to it")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    options = parser.parse_args(given)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in options.only}
    for _ in range(options.rounds):
        for name, taken in times.items():
            taken.append(CASES[name][0]())
    print("case                         seconds      cpu    goal")
    for name, taken in times.items():
        wall, cpu = (statistics.median(each) for each in zip(*taken, strict=True))
        print(f"{name:28} {wall:7.2f}  {cpu:7.2f} {CASES[name][1]:7.1f}")
        if options.output is not None:
            row = {"case": name, "seconds": round(wall, 3), "cpu": round(cpu, 3), "goal": CASES[name][1]}
            add_row(options.output, {**row, "rounds": options.rounds, "load": load(), "commit": commit()})


if __name__ == "__main__":
    main()
