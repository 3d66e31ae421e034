"""Damaged tables, lists, class counts and predictions."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from tests.fuzz.arrays import damaged_npz
from tests.fuzz.base import TRAIN, Base
from tests.fuzz.mutations import ODD_TEXTS, corrupt, corrupt_text, corrupt_tree
from tests.fuzz.sandbox import Case


def data_command(rng: Random, path: str) -> tuple[str, ...]:
    """Return a command that reads data."""
    return rng.choice(
        (
            *[("inspect", path)] * 5,
            ("show", path),
            ("data", "export", path, "--target", "out/folder"),
            ("train", path, *TRAIN, "--out", "out/run"),
        )
    )


def table(rng: Random, base: Base, box: Path) -> Case:
    """Damage a table of images."""
    suffix = rng.choice((".csv", ".csv", ".tsv", ".parquet"))
    path = Path("data") / f"odd{suffix}"
    (box / path).write_bytes(_parquet(rng, base) if suffix == ".parquet" else _csv(rng, base, suffix))
    if rng.random() < 0.1:  # a table next to it
        (box / path).rename(box / "data" / f"train{suffix}")
        (box / "data" / f"test{suffix}").write_bytes(_csv(rng, base, suffix))
        path = Path("data") / f"train{suffix}"
    return Case("tables", data_command(rng, str(path)), (path.name,))


def _rows(rng: Random, base: Base) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a valid table."""
    rows = [list(pair) for pair in base.paths]
    if rng.random() < 0.4:
        return ["path", "label", "split"], [[*row, ("train", "train", "test")[i % 3]] for i, row in enumerate(rows)]
    if rng.random() < 0.3:
        numbers = {"ant": "3", "bee": "7", "cat": "12"}
        rows = [[path, numbers[label]] for path, label in rows]
    return ["path", "label"], rows


def _csv(rng: Random, base: Base, suffix: str) -> bytes:
    header, rows = _rows(rng, base)
    mark = "\t" if suffix == ".tsv" else rng.choice(",,;")
    return corrupt_text(rng, "\n".join(mark.join(row) for row in (header, *rows)) + "\n")


def _parquet(rng: Random, base: Base) -> bytes:
    header, rows = _rows(rng, base)
    columns: dict[str, Any] = {name: pa.array([row[i] for row in rows]) for i, name in enumerate(header)}
    if rng.random() < 0.7:
        name = rng.choice(header)
        columns[name] = rng.choice(ARROW_DAMAGES)(rng, columns[name])
    file = io.BytesIO()
    pa_parquet.write_table(pa.table(list(columns.values()), names=list(columns)), file)
    return corrupt(rng, file.getvalue()) if rng.random() < 0.3 else file.getvalue()


def _with_null(rng: Random, column: Any) -> Any:
    values = column.to_pylist()
    values[rng.randrange(len(values))] = rng.choice((None, "", "nan"))
    return pa.array(values, column.type)


ARROW_DAMAGES: tuple[Callable[[Random, Any], Any], ...] = (
    _with_null,
    lambda rng, column: pa.array([float("nan")] + [1.0] * (len(column) - 1)),
    lambda rng, column: pa.array(range(len(column))),
    lambda rng, column: pa.array([2**62 + i for i in range(len(column))]),
    lambda rng, column: pa.array([value.encode() + b"\xff" for value in column.to_pylist()], pa.binary()),
    lambda rng, column: pa.array([[value] for value in column.to_pylist()]),
    lambda rng, column: pa.array([{"bytes": value.encode(), "path": value} for value in column.to_pylist()]),
    lambda rng, column: column.dictionary_encode(),
    lambda rng, column: pa.nulls(len(column)),
    lambda rng, column: pa.array([True] * len(column)),
    lambda rng, column: pa.array([0] * len(column), pa.timestamp("s")),
    lambda rng, column: pa.array([rng.choice(ODD_TEXTS) for _ in range(len(column))]),
    lambda rng, column: pa.array([[(value, value)] for value in column.to_pylist()], pa.map_(pa.string(), pa.string())),
)


def image_list(rng: Random, base: Base, box: Path) -> Case:
    """Damage a list of `path label` lines, or the class names next to it."""
    numbers = {"ant": 0, "bee": 1, "cat": 2}
    text = "".join(f"{path} {numbers[label]}\n" for path, label in base.paths)
    path, names = Path("data/odd_train.txt"), {"classnames.txt": "0 ant\n1 bee\n2 cat\n"}
    categories = [{"id": index, "name": name} for name, index in numbers.items()]
    match rng.randrange(4):
        case 0:
            (box / path).write_text(text)
            (box / "data/classnames.txt").write_bytes(corrupt_text(rng, names["classnames.txt"]))
        case 1:
            (box / path).write_text(text)
            (box / "data/categories.json").write_bytes(_json(rng, categories))
        case 2:
            (box / path).write_text(text)
            (box / "data/odd_test.txt").write_bytes(corrupt_text(rng, text))
        case _:
            (box / path).write_bytes(corrupt_text(rng, text))
    given = rng.choice((str(path), str(path), "data"))
    return Case("lists", data_command(rng, given), ("odd_train", "odd_test", "classnames", "categories", "'data'"))


def _json(rng: Random, tree: Any) -> bytes:
    match rng.randrange(4):
        case 0:
            return corrupt_text(rng, json.dumps(tree, indent=1))
        case 1:
            return rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"1e999", b"NaN", b'"\\ud800"', b"1" * 10_000))
        case _:
            return json.dumps(corrupt_tree(rng, tree)).encode()


def class_counts(rng: Random, base: Base, box: Path) -> Case:
    """Damage a file of training images per class."""
    counts = {"ant": 500, "bee": 50, "cat": 5}
    suffix = rng.choice((".csv", ".csv", ".txt", ".json", ".tsv"))
    path = Path("data") / f"odd{suffix}"
    if suffix == ".json":
        content = _json(rng, list(counts.values()))
    elif suffix == ".txt":
        content = corrupt_text(rng, "".join(f"{count}\n" for count in counts.values()))
    else:
        lines = "".join(f"{name},{count}\n" for name, count in counts.items())
        content = corrupt_text(rng, rng.choice(("class,count\n", "")) + lines)
    (box / path).write_bytes(content)
    (box / "data/p.csv").write_text("target,predicted\nant,ant\nbee,ant\ncat,cat\n")
    return Case("class counts", (*_judge(rng, "data/p.csv"), "--counts", str(path)), (path.name, "p.csv"))


def _judge(rng: Random, path: str) -> tuple[str, ...]:
    return rng.choice(
        (
            ("evaluate", path),
            ("evaluate", path, "--json"),
            ("evaluate", path, "--test-prior", "backward-5"),
            ("report", path, "--output", "out/r.html"),
            ("compare", path, "data/run", "--output", "out/c.html", "--table", "out/c.csv"),
        )
    )


def predictions(rng: Random, base: Base, box: Path) -> Case:
    """Damage a file of predictions."""
    path = Path("data") / rng.choice(("odd.csv", "odd.npz", "odd.npz"))
    if path.suffix == ".npz":
        (box / path).write_bytes(damaged_npz(rng, base.arrays))
    else:
        names = rng.choice((("ant", "bee", "cat"), ("0", "1", "2")))
        scores = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.75, 0.25, 0.0]])
        kind = rng.choice(("prob", "logit"))
        header = ["path", "target", *(f"{kind}_{name}" for name in names)]
        rows = [[f"{i}.png", names[i], *map(str, row)] for i, row in enumerate(scores.tolist())]
        if rng.random() < 0.3:
            header, rows = ["target", "predicted"], [[name, names[0]] for name in names]
        (box / path).write_bytes(corrupt_text(rng, "\n".join(",".join(row) for row in (header, *rows)) + "\n"))
    (box / "data/counts.txt").write_text("500\n50\n5\n")
    given = ("--counts", "data/counts.txt") if path.suffix == ".csv" or rng.random() < 0.3 else ()
    return Case("predictions", (*_judge(rng, str(path)), *given), (path.name,))
