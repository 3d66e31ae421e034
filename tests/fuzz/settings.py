"""Damaged configurations, plans, results, logs and cells."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.base import AGAIN, Base
from tests.fuzz.mutations import corrupt_text, corrupt_tree
from tests.fuzz.sandbox import Case

PLAN: dict[str, Any] = {
    "about": "one",
    "data": {"digits-lt": {"imbalance_factors": [20]}},
    "methods": ["ce", {"name": "half", "method": "balanced-softmax", "set": {"stages.0.loss.power": 0.5}}],
    "seeds": 1,
    "reference": "ce",
    "recipe": "digits",
    "changes": {"training": {"epochs": 1}, "set": {"data.val_share": 0.1}},
    "columns": ["top1", "many", "medium", "few"],
}
TRAPS = (
    "!!python/object/apply:os.mkdir ['written-by-yaml']\n",
    "a: !!python/name:os.system\n",
    "a: &a [*a]\n",
    "&a {stages: *a}\n",
    "data: &a {name: *a}\n",
    "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10) if i else '1'}]\n" for i in range(30)),
    "".join(f"a{i}: &a{i} {{x: {f'*a{i - 1}' if i else '1'}, y: {f'*a{i - 1}' if i else '1'}}}\n" for i in range(30))
    + "stages: *a29\n",
    "stages: " + "[" * 3000,
    "stages: " + "[" * 900 + "]" * 900 + "\n",
    "{a: " * 900 + "1" + "}" * 900,
    "data: {name: digits-lt}\ndata: {name: nowhere}\n",
    'data: {name: "\\ud800"}\n',
    'data: {name: "\\0"}\n',
    "? [1, 2]\n: 3\n",
    "? {a: 1}\n: 3\n",
    "1: 2\n",
    "seed: 0x7fffffffffffffffffffffff\n",
    "seed: 1e400\n",
    "seed: " + "9" * 5000 + "\n",
    "a: 2001-99-99\n",
    "a: 2001-12-14t21:59:43.10-05:00\n",
    "a: !!binary x\n",
    "a: !!int x\n",
    "a: !!float x\n",
    "a: 1__\n",
    "<<: 3\n",
    "<<: {seed: 1}\n",
    "a: %\n",
    "--- 1\n--- 2\n",
    "null\n",
    "[]\n",
    "\t",
    "%YAML 9.9\n---\na: 1\n",
)


def damaged_yaml(rng: Random, tree: Any) -> bytes:
    """Return YAML with other values, damaged lines, or a trap for a careless reader."""
    text = yaml.safe_dump(tree, sort_keys=False)
    match rng.randrange(6):
        case 0:
            return corrupt_text(rng, text)
        case 1:
            return rng.choice((rng.choice(TRAPS), text + rng.choice(TRAPS))).encode(errors="surrogatepass")
        case _:
            return yaml.safe_dump(corrupt_tree(rng, tree), sort_keys=False, allow_unicode=True).encode()


def configuration(rng: Random, base: Base, box: Path) -> Case:
    """Damage a configuration given by the user."""
    config = {**base.config, "data": {**base.config["data"], "name": "data/images"}}
    config["stages"] = json.loads(json.dumps(config["stages"]))
    config["stages"][0]["training"]["epochs"] = 1
    if rng.random() < 0.3:
        config = {"training": {"epochs": 1}, "data": config["data"], "seed": 1, "set": [["many", 5]], "loss": "Focal"}
    path = "data/odd.yaml"
    (box / path).write_bytes(damaged_yaml(rng, config))
    command = rng.choice((("show", "--config", path), ("train", "--config", path, "--out", "out/run")))
    # an option of a component is checked with the data, under its path in the configuration
    return Case(
        "configurations", command, ("odd.yaml", "stages.", "`model", "`device`", "out/run", "there is no ", "diverged")
    )


def plan(rng: Random, base: Base, box: Path) -> Case:
    """Damage the plan of a bench."""
    path = "data/odd.yaml"
    (box / path).write_bytes(damaged_yaml(rng, PLAN))
    return Case("plans", ("bench", path, "--table-only", "--out", "out/bench"), ("odd",))


def run_config(rng: Random, base: Base, box: Path) -> Case:
    """Damage the configuration in a run folder."""
    content = damaged_yaml(rng, base.config)
    return _run_file(rng, box, "config.yaml", content, "run: config.yaml")


def run_result(rng: Random, base: Base, box: Path) -> Case:
    """Damage the result in a run folder."""
    tree = json.loads((box / "data/run/result.json").read_text())
    damaged = corrupt_tree(rng, tree)
    content = corrupt_text(rng, json.dumps(tree, indent=1)) if rng.random() < 0.2 else json.dumps(damaged).encode()
    return _run_file(rng, box, "result.json", content, "run: result.json")


def run_log(rng: Random, base: Base, box: Path) -> Case:
    """Damage the log in a run folder."""
    rows = [json.loads(line) for line in (box / "data/run/log.jsonl").read_text().splitlines()]
    text = "".join(json.dumps(row) + "\n" for row in (rows if rng.random() < 0.3 else corrupt_tree(rng, rows)))
    content = corrupt_text(rng, text) if rng.random() < 0.5 else text.encode()
    return _run_file(rng, box, "log.jsonl", content, "run: log.jsonl")


def _run_file(rng: Random, box: Path, name: str, content: bytes, reader: str) -> Case:
    (box / "data/run" / name).write_bytes(content)
    run = "data/run"
    if rng.random() < 0.3:
        shutil.copytree(box / run, box / "out/run")
        for file in ("result.json", "predictions.npz") if name != "result.json" else ("predictions.npz",):
            (box / "out/run" / file).unlink()
        (box / "out/run/checkpoint/previous.pt").replace(box / "out/run/checkpoint/last.pt")
        names = (name, "out/run", "stages.", "there is no head", "there is no backbone", "`device`", "cannot access")
        return Case(reader, ("train", "--resume", "--out", "out/run"), names)
    shutil.copytree(box / run, box / "data/other")
    command = rng.choice(
        (
            ("evaluate", run),
            ("evaluate", run, "--json"),
            ("report", run, "--output", "out/r.html"),
            ("report", run, "--output", "out/r.html"),
            ("compare", run, "data/other", "--output", "out/c.html"),
            ("predict", run, "data/images", "--output", "out/p.csv"),
            ("show", run),
            ("features", run, "data/images", "--output", "out/f.npz"),
            ("train", "data/images", *AGAIN, "--from", run, "--out", "out/b"),
            ("bench", "quick", "--table-only", "--adopt", run, "--out", "out/bench"),
        )
    )
    return Case(
        reader,
        command,
        (name, run, "quick", "`loss`", "there is no head", "there is no backbone", "`device`", "cannot access"),
    )


def bench_cell(rng: Random, base: Base, box: Path) -> Case:
    """Damage the files of a training in a bench."""
    cell = box / "out/bench/cells/odd"
    shutil.copytree(box / "data/run", cell)
    tree = {"settings": "0" * 64, "adopted_from": "data/run"}
    text = json.dumps(tree if rng.random() < 0.3 else corrupt_tree(rng, tree))
    (cell / "cell.json").write_bytes(corrupt_text(rng, text))
    flags = ("--table-only", "--keep-old", "--only", "ce", "--seeds", "1", "--out", "out/bench")
    return Case("bench cells", ("bench", "quick", *flags), ("cell.json", "quick"))
