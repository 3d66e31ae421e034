"""Fingerprint every method recipe, to show that a refactoring changes no result.

    python benchmarks/golden.py --output before.json
    python benchmarks/golden.py --output after.json --against before.json

Each method trains on `digits-lt` on one CPU thread with seed 0. The table holds the SHA-256 of the final weights, of
the test logits and of the test scores, and the SHA-256 of the resolved configuration of every method under every
training recipe. Settings that a recipe leaves to the device are fixed: single precision and the contiguous layout.
Hashes depend on the machine and on the torch version: compare only tables made on one machine.
"""

import argparse
import contextlib
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from longtail.cli import main as longtail
from longtail.config import recipes

FIXED = ("--precision", "fp32", "--engine", "eager")


def fixed(configuration: str) -> str:
    """Return a configuration in which single precision and the contiguous layout replace the choice of the device."""
    return configuration.replace("precision: auto", "precision: fp32").replace(
        "channels_last: null", "channels_last: false"
    )


def run_command(arguments: Sequence[str]) -> str:
    """Run one `longtail` command in this process and return what it wrote to stdout."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()) as messages:
        try:
            longtail(list(arguments))
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"longtail {' '.join(arguments)}: {messages.getvalue()}") from None
    return output.getvalue()


def digest_of_weights(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the names, types and bytes of the tensors of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint(run: Path) -> dict[str, str]:
    """Return the hashes of a finished run."""
    state = torch.load(run / "checkpoint" / "last.pt", weights_only=True)
    with np.load(run / "predictions.npz") as predictions:
        logits = hashlib.sha256(np.ascontiguousarray(predictions["logits"]).tobytes()).hexdigest()
    scores = json.dumps(json.loads((run / "result.json").read_text())["test"], sort_keys=True)
    return {
        "weights": digest_of_weights(state["model"]),
        "logits": logits,
        "scores": hashlib.sha256(scores.encode()).hexdigest(),
    }


def train_all(methods: Sequence[str], epochs: int | None) -> dict[str, dict[str, str]]:
    """Train each method and return its hashes."""
    table = {}
    for method in methods:
        with tempfile.TemporaryDirectory() as folder:
            length = [] if epochs is None else ["--epochs", str(epochs)]
            run_command(
                [
                    "train",
                    "digits-lt",
                    "--method",
                    method,
                    "--seed",
                    "0",
                    "--device",
                    "cpu",
                    "--out",
                    folder,
                    *FIXED,
                    *length,
                ]
            )
            table[method] = fingerprint(Path(folder))
        print(f"{method:24} {table[method]['weights'][:16]} {table[method]['logits'][:16]}", flush=True)
    return table


def show_all(methods: Sequence[str]) -> dict[str, str]:
    """Return the hash of the resolved configuration of each method under each training recipe."""
    return {
        f"{recipe}/{method}": hashlib.sha256(
            fixed(run_command(["show", "cifar100-lt", "--method", method, "--recipe", recipe])).encode()
        ).hexdigest()
        for recipe in recipes.names("training")
        if "replace" not in recipes.read("training", recipe)  # does not apply to every method
        for method in methods
    }


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Return the names whose hashes differ or that only one of the tables has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def main() -> int:
    """Write the table; compare it with another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="table of an earlier version; exit code 1 if a hash differs")
    parser.add_argument("--methods", nargs="+", default=recipes.names("methods"), help="default: every method recipe")
    parser.add_argument("--epochs", type=int, help="shorten the training stages")
    parser.add_argument("--configs-only", action="store_true", help="compare resolved configurations, train nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    table: dict[str, dict[str, object]] = {"configs": dict(show_all(given.methods))}
    if not given.configs_only:
        table["runs"] = dict(train_all(given.methods, given.epochs))
    given.output.write_text(json.dumps(table, indent=1) + "\n")
    if given.against is None:
        return 0
    before = json.loads(given.against.read_text())
    changed = [f"{part}: {name}" for part in table for name in differences(before[part], table[part])]
    compared = sum(len(hashes) for hashes in table.values())
    print("\n".join(changed) or f"identical: {compared} entries")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
