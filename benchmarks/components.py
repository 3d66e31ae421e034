"""Every method recipe on one data set, several seeds: a Markdown table of mean and standard deviation.

    python benchmarks/components.py [--data digits-lt] [--seeds 5] [--methods ce lws ...] [--out runs/components]

Cells that are finished in --out are read, not run again. The honest protocol: last checkpoint, choices on the held-out
part of the training set.
"""

import argparse
import json
import statistics
from pathlib import Path

from longtail import recipes
from longtail.run import fit

COLUMNS = ("top1", "many", "medium", "few", "mcc", "ece")


def cell(data: str, method: str, seed: int, folder: Path, changes: dict) -> dict:
    result = folder / "result.json"
    if not result.exists():
        config = recipes.compose(data, method, changes=[{"seed": seed}, changes])
        fit(config, folder, resume=True, report=False)
    return json.loads(result.read_text())


def summary(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits-lt")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=recipes.names("methods"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/components"))
    options = parser.parse_args()
    changes = {"training": {"epochs": options.epochs}} if options.epochs else {}
    print("| method | " + " | ".join(COLUMNS) + " | seconds |\n|" + "---|" * (len(COLUMNS) + 2))
    for method in options.methods:
        folders = [options.out / f"{options.data}-{method}-seed{seed}" for seed in range(options.seeds)]
        results = [cell(options.data, method, seed, folder, changes) for seed, folder in enumerate(folders)]
        scores = " | ".join(summary([result["test"][column] for result in results]) for column in COLUMNS)
        seconds = statistics.mean(result["cost"]["seconds"] for result in results)
        print(f"| {method} | {scores} | {seconds:.1f} |", flush=True)
    print(f"\n{options.seeds} seeds, {results[0]['cost']['device']}, torch {results[0]['versions']['torch']}")


if __name__ == "__main__":
    main()
