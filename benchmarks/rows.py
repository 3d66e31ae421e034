"""Rows of results as JSON lines and as a Markdown table, shared by the benchmarks."""

import json
import os
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from longtail._io import append_text, write_text


def load() -> float | None:
    """Return the load average of the last minute, which says how far a timing can be trusted."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def commit() -> str | None:
    """Return the short commit of this checkout; None outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def add_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file of JSON lines, and write all rows to the Markdown table next to it.

    Args:
        path: File of JSON lines. The table has the same name with the suffix `.md`.
        row: Values by column.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    append_text(path, json.dumps(row) + "\n")
    write_text(path.with_suffix(".md"), markdown(read_rows(path)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines; none if it does not exist."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a Markdown table with the columns of all rows, in the order in which they first occur."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns), *([_text(row.get(column)) for column in columns] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def means(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per method, data set and recipe: number of seeds, mean and standard deviation of the accuracy."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row.get("top1") is not None:
            key = tuple(row.get(column) for column in ("data", "imbalance", "recipe", "method"))
            groups.setdefault(key, []).append(row["top1"])
    return [
        {
            **dict(zip(("data", "imbalance", "recipe", "method"), key, strict=True)),
            "n": len(found),
            "mean": statistics.mean(found),
            "sd": statistics.stdev(found) if len(found) > 1 else None,
        }
        for key, found in groups.items()
    ]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/").replace("\n", " ")
