"""Results and pages for the tests: small, and the same every time."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch

from longtail.config import recipes
from longtail.evaluation import Predictions, save_predictions
from longtail.report.classes import Classes
from longtail.report.comparison import Comparison
from longtail.report.data import ReportData
from longtail.report.sides import Side

EVIL = ('<script>alert("x")</script>', 'it\'s "quoted" & $\\frac{', "' onmouseover='alert(1)", "</svg></style>\x00")
VOID = {"br", "col", "hr", "img", "meta"}


class Page(HTMLParser):
    """The elements of a page with their attributes, the text of each kind of element, and the rows of its tables."""

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
            self._table = attributes["class"].split()[0]
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
    """Return predictions that favor frequent classes."""
    generator = torch.Generator().manual_seed(0)
    counts_C = torch.tensor(counts)
    targets = torch.arange(len(counts)).repeat_interleave(per_class)
    scores = torch.randn(len(targets), len(counts), generator=generator) + counts_C.log() * 0.4
    scores[torch.arange(len(targets)), targets] += 2.0
    given = {"logits": scores} if logits else {"predicted": scores.argmax(1)}
    return Predictions(targets, counts_C, class_names=names, **given)


def report_data(predictions: Predictions, **options: Any) -> ReportData:
    classes = Classes.grouped(predictions.class_names, predictions.class_counts)
    return ReportData("a title", predictions, predictions.scores(), classes, **options)


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


@cache
def config(**changes: int) -> str:
    return recipes.to_yaml(recipes.compose("digits-lt", "ce", changes=[{"training": changes}] if changes else []))


def write_files(run: Path, predictions: Predictions, result: dict[str, Any], log: str = "") -> Path:
    """Write the files of a finished run."""
    save_predictions(run / "predictions.npz", predictions)
    (run / "result.json").write_text(json.dumps(result))
    (run / "config.yaml").write_text(config())
    if log:
        (run / "log.jsonl").write_text(log)
    return run


def write_run(folder: Path, found: Predictions, **changes: Any) -> Path:
    """Write a finished run into a new folder."""
    folder.mkdir()
    return write_files(folder, found, {**RESULT, "method": folder.name, **changes})


COUNTS = (300, 150, 60, 40, 9, 4)
NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def predictions(lean: float, names: tuple[str, ...] = NAMES, logits: bool = True, seed: int = 0) -> Predictions:
    """Return predictions that favor frequent classes by `lean`, on the same images for every `lean`."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor((COUNTS * len(names))[: len(names)]).sort(descending=True).values
    targets = torch.arange(len(names)).repeat_interleave(20)
    scores = torch.randn(len(targets), len(names), generator=generator) + counts.log() * lean
    scores[torch.arange(len(targets)), targets] += 2.0
    given = {"logits": scores} if logits else {"predicted": scores.argmax(1)}
    return Predictions(targets, counts, class_names=names, **given)


def compared(targets: list[int], *sides: list[int], counts: tuple[int, ...] = (300, 50, 5)) -> Comparison:
    """Compare predicted labels."""
    found = [Predictions(torch.tensor(targets), list(counts), predicted=torch.tensor(side)) for side in sides]
    return together(*found)


def together(*sides: Predictions, labels: tuple[str, ...] = ("one", "two", "three"), **options: Any) -> Comparison:
    found = tuple(Side(label, Path(label), side, side.scores()) for label, side in zip(labels, sides, strict=False))
    classes = Classes.grouped(sides[0].class_names, sides[0].class_counts)
    return Comparison(found, classes, **options)


def picture(index: int) -> torch.Tensor:
    """Return an image whose red value is its index."""
    return torch.tensor([index, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)


LOADS = ("src", "srcset", "poster", "data", "action", "formaction", "background", "ping", "manifest")


def assert_loads_nothing(text: str, page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "audio", "video")
        for key in LOADS:
            assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
        for key in ("href", "xlink:href"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
    assert not re.search(r"@import|@font-face|url\(\s*['\"]?(?!#)", text)
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert "https://" not in text
