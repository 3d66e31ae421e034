"""Results to report on: made up, small, the same every time."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from longtail.evaluation import Predictions, save_predictions
from longtail.report.classes import Classes
from longtail.report.content import Content

EVIL = ('<script>alert("x")</script>', 'it\'s "quoted" & $\\frac{', "' onmouseover='alert(1)", "</svg></style>\x00")
VOID = {"br", "col", "hr", "img", "meta"}


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")
        if tag == "table":
            self._table = attributes["class"]
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self.rows[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self.open):
            self.rows[self._table][-1][-1] += data

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


def sample(
    counts: tuple[int, ...] = (300, 150, 60, 40, 9, 4),
    per_class: int = 20,
    names: tuple[str, ...] | None = None,
    logits: bool = True,
) -> Predictions:
    """A classifier that leans towards full classes."""
    generator = torch.Generator().manual_seed(0)
    counts_C = torch.tensor(counts)
    targets = torch.arange(len(counts)).repeat_interleave(per_class)
    scores = torch.randn(len(targets), len(counts), generator=generator) + counts_C.log() * 0.4
    scores[torch.arange(len(targets)), targets] += 2.0
    given = {"logits": scores} if logits else {"predicted": scores.argmax(1)}
    return Predictions(targets, counts_C, class_names=names, **given)


def content(predictions: Predictions, **options: Any) -> Content:
    classes = Classes.grouped(predictions.class_names, predictions.class_counts)
    return Content("a title", predictions, predictions.scores(), classes, **options)


RESULT: dict[str, Any] = {
    "data": "digits-lt",
    "imbalance_factor": 75,
    "split": {"name": "digits-seed0", "sha256": "ab25350e3e65", "images": 563},
    "method": "balanced-softmax",
    "recipe": "digits",
    "seed": 3,
    "backbone": {"name": "SmallNet", "parameters": 93_000, "width": 32},
    "protocol": {"checkpoint": "last", "selected_on": None},
    "test": {"top1": 70.0},
    "cost": {"seconds": 21.456, "images_per_second": 15321.3, "peak_memory_mb": 412.0, "device": "cpu"},
    "versions": {"longtail": "0.1.0", "torch": "2.15.0", "commit": "1d509dc"},
    "notes": [
        "A balanced test part of 20 images per class was held out.",
        "2 unreadable images were left out: a/1.png (the file is empty), a/2.png (the file is empty).",
        "1 of 120 test images are in the training part too: a/3.png = a/4.png.",
    ],
    "skipped": 2,
    "duplicates": 1,
    "class_groups": {"kind": "fixed", "many": 100, "few": 20},
    "command": "longtail train --data 'a b' --method balanced-softmax",
}


def write_files(run: Path, predictions: Predictions, result: dict[str, Any], log: str = "", config: str = "") -> Path:
    """What a run leaves behind."""
    save_predictions(run / "predictions.npz", predictions)
    (run / "result.json").write_text(json.dumps(result))
    for name, text in (("log.jsonl", log), ("config.yaml", config)):
        if text:
            (run / name).write_text(text)
    return run


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., Path]:
    def write(predictions: Predictions, result: dict[str, Any] | None = None, log: str = "", config: str = "") -> Path:
        return write_files(tmp_path, predictions, RESULT if result is None else result, log, config)

    return write
