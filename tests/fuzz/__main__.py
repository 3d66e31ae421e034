"""Command of the fuzz: make the cases, run them, print the table of outcomes."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

from tests.fuzz import arrays, images, settings, tables
from tests.fuzz.base import Base
from tests.fuzz.sandbox import Case, Outcome, Running

READERS: Mapping[Callable[[Random, Base, Path], Case], int] = {
    images.image_file: 5,
    images.image_folder: 2,
    tables.table: 3,
    tables.image_list: 2,
    tables.class_counts: 2,
    tables.predictions: 3,
    arrays.feature_file: 3,
    arrays.checkpoint: 3,
    arrays.cifar: 1,
    settings.configuration: 3,
    settings.plan: 2,
    settings.run_config: 2,
    settings.run_result: 2,
    settings.run_log: 2,
    settings.bench_cell: 1,
}
"""Makers of cases, each with its share of the cases."""
PARTS = ("data", "out", "tmp", "home")


def fuzz(
    numbers: Sequence[int], seed: int, jobs: int, on_end: Callable[[int, Case, Outcome], None], keep: Path | None = None
) -> dict[int, tuple[Case, Outcome]]:
    """Run cases and return them with their outcomes, by number.

    Args:
        numbers: Numbers of the cases. A number and a seed always give the same case.
        seed: Seed of all cases.
        jobs: Number of cases that run at once.
        on_end: Called with number, case and outcome when a case ends.
        keep: Folder in which the boxes of the cases stay. By default, they are removed.
    """
    order = [maker for maker, count in READERS.items() for _ in range(count)]
    Random(seed).shuffle(order)
    found: dict[int, tuple[Case, Outcome]] = {}
    running: dict[int, Running] = {}
    waiting = list(numbers)
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        os.chmod(place, 0o755)
        folder = Path(place) / "base"
        folder.mkdir()
        os.chdir(folder)
        base = Base(folder)
        os.chdir(place)
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop(0)
                box = (keep or Path(place)) / f"case{number}"
                running[number] = _start(order[number % len(order)], base, box, f"{seed}:{number}")
            for number, each in list(running.items()):
                outcome = each.outcome()
                if outcome is not None:
                    found[number] = (each.case, outcome)
                    on_end(number, each.case, outcome)
                    del running[number]
                    if keep is None:
                        shutil.rmtree(each.box, ignore_errors=True)
            time.sleep(0.002)
    return found


def _start(maker: Callable[[Random, Base, Path], Case], base: Base, box: Path, key: str) -> Running:
    for part in PARTS:
        (box / part).mkdir(parents=True)
    shutil.copytree(base.folder / "data", box / "data", dirs_exist_ok=True)
    return Running(maker(Random(key), base, box), box)


def outcome_table(found: Mapping[int, tuple[Case, Outcome]]) -> str:
    """Return the table of outcomes by reader, in Markdown."""
    kinds = ("accepted", "refused", "other")
    counts = Counter((case.reader, outcome.kind) for case, outcome in found.values())
    readers = sorted({reader for reader, _ in counts})
    lines = ["| reader | accepted | refused | other |", "|---|---|---|---|"]
    lines += [f"| {reader} | {' | '.join(str(counts[reader, kind]) for kind in kinds)} |" for reader in readers]
    total = Counter(outcome.kind for _, outcome in found.values())
    return "\n".join([*lines, f"| all | {' | '.join(str(total[kind]) for kind in kinds)} |"])


def main() -> int:
    """Run the fuzz and return 1 if an outcome is neither accepted nor refused."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers of longtail.")
    parser.add_argument("--cases", type=int, default=2000, help="Number of cases. Default: 2000.")
    parser.add_argument("--only", type=int, nargs="+", help="Numbers of single cases.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all cases. Default: 0.")
    parser.add_argument("--jobs", type=int, default=1, help="Cases that run at once. Default: 1.")
    parser.add_argument("--keep", type=Path, help="Folder in which the files of the cases stay.")
    parser.add_argument("--verbose", action="store_true", help="Print the messages of all cases.")
    given = parser.parse_args()
    keep = None if given.keep is None else given.keep.absolute()

    def show(number: int, case: Case, outcome: Outcome) -> None:
        if outcome.kind == "other" or given.verbose:
            sys.stdout.write(f"{number} {outcome.kind}: longtail {' '.join(case.arguments)}\n    {outcome.reason}\n")
            sys.stdout.write(f"{outcome.message[-4000:]}\n" if given.only or given.verbose else "")
            sys.stdout.flush()

    found = fuzz(given.only or range(given.cases), given.seed, given.jobs, show, keep)
    sys.stdout.write(outcome_table(found) + "\n")
    return int(any(outcome.kind == "other" for _, outcome in found.values()))


if __name__ == "__main__":
    sys.exit(main())
