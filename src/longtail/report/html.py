"""One page that tells a result: `report.html`, a single file that needs no network and loads nothing.

Every text of a run (class names, paths, the configuration) is escaped; the page's policy also forbids any script but
its own, any connection and any image that is not inside it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longtail.evaluation import Predictions, Scores, group_options, read_predictions, read_result
from longtail.evaluation.metrics import Groups
from longtail.report.classes import Classes
from longtail.report.classtable import class_table_section
from longtail.report.content import Content, Thumbnails
from longtail.report.document import asset, document, write_page
from longtail.report.examples import weakest_section
from longtail.report.markup import Html, join, tag
from longtail.report.sections import (
    about_section,
    cards,
    classes_section,
    confidence_section,
    groups_section,
    section,
    training_section,
)
from longtail.report.verdict import verdict
from longtail.report.wording import DASH, several


def write_report(run: str | Path, thumbnails: Thumbnails | None = None, target: str | Path | None = None) -> Path:
    """Write the page of a run, whole or not at all.

    Args:
        run: folder with `result.json` and `predictions.npz`; `config.yaml` and `log.jsonl` are shown where they are.
        thumbnails: an image for a person to look at, uint8 (3, h, w), by its place in the test; None shows none.
        target: the file to write; None takes `report.html` in the run's folder.

    Returns:
        Path of the page.

    Raises:
        InputError: if the folder holds no finished run, a file of it cannot be read, or the page cannot be written.

    Example:
        >>> write_report("runs/none")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: no result at runs/none/result.json; give the folder of a finished run
    """
    run = Path(run)
    result = read_result(run / "result.json")
    predictions = read_predictions(run)
    options = group_options(result.get("class_groups"))
    scores = predictions.scores(**options)
    classes = Classes.grouped(predictions.class_names, predictions.class_counts, **options)
    content = Content(
        title=_title(result, run),
        predictions=predictions,
        scores=scores,
        classes=classes,
        result=result,
        config=_read_text(run / "config.yaml"),
        log=_read_log(run / "log.jsonl"),
        thumbnails=thumbnails,
    )
    return write_page(run / "report.html" if target is None else Path(target), page(content))


def write_report_for(
    predictions: Predictions,
    scores: Scores,
    target: str | Path,
    title: str,
    *,
    many: int = 100,
    few: int = 20,
    groups: Groups = "fixed",
    thumbnails: Thumbnails | None = None,
) -> Path:
    """Write the same page for predictions of any other tool.

    Args:
        predictions: of N test images.
        scores: of those predictions.
        target: the file to write.
        title: of the page.
        many: as `scores` was computed with.
        few: likewise.
        groups: likewise.
        thumbnails: as for `write_report`.

    Returns:
        Path of the page.

    Raises:
        InputError: if the file cannot be written, or `scores` was computed with other groups.

    Example:
        >>> import tempfile, torch
        >>> found = Predictions(torch.tensor([0, 1]), [500, 5], predicted=torch.tensor([0, 0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report_for(found, found.scores(), Path(folder) / "other.html", "another tool").name
        'other.html'
    """
    classes = Classes.grouped(predictions.class_names, predictions.class_counts, many, few, groups)
    content = Content(title, predictions, scores, classes, thumbnails=thumbnails)
    return write_page(Path(target), page(content))


def page(content: Content) -> str:
    """The whole page as text."""
    parts = [
        groups_section(content),
        classes_section(content),
        confidence_section(content),
        weakest_section(content),
        training_section(content),
        class_table_section(content),
        about_section(content),
    ]
    summary = section("summary", "In short", verdict(content), cards(content))
    main = tag("main", summary, *parts)
    body = join([_masthead(content), main, _footer(content)])
    return document(content.title, body, asset("page.css"), asset("tables.js") + asset("page.js"))


def _masthead(content: Content) -> Html:
    warning = content.warning
    flag = tag("p", f"{warning.capitalize()}: these numbers flatter the model.", class_="warning", role="note")
    links = {
        "groups": "Groups",
        "classes": "Classes",
        "confidence": "Confidence",
        "weakest": "Weakest classes",
        "every": "Every class",
        "about": "About",
    }
    nav = tag("nav", *(tag("a", text, href=f"#{key}") for key, text in links.items()), aria_label="Sections")
    return tag(
        "header",
        tag("p", "Long-tailed classification report", class_="kicker"),
        tag("h1", content.title),
        tag("p", join(_subtitle(content), " · "), class_="subtitle"),
        flag if warning else None,
        nav,
    )


def _subtitle(content: Content) -> Iterator[str]:
    """What sets this result apart from others at a glance."""
    result, backbone = content.result, content.about("backbone")
    if "name" in backbone:
        size = backbone.get("parameters")
        yield f"{backbone['name']} ({size / 1e6:.2f} M parameters)" if isinstance(size, int) else str(backbone["name"])
    if "recipe" in result:
        yield f"recipe {result['recipe']}"
    yield several(len(content.classes), "class", "classes")
    counts = content.classes.counts
    yield several(int(counts.sum()), "training image")
    yield f"imbalance {int(counts.max()) / max(1, int(counts[counts > 0].min())):,.0f} to 1"
    if "seed" in result:
        yield f"seed {result['seed']}"


def _footer(content: Content) -> Html:
    version = content.about("versions").get("longtail", "")
    dash = f"“{DASH}” stands where there is nothing to measure."
    return tag("footer", f"Written by {f'longtail {version}'.strip()}. Percentages run from 0 to 100; {dash}")


def _title(result: Mapping[str, Any], run: Path) -> str:
    if "method" not in result or "data" not in result:
        return run.resolve().name
    return f"{result['method']} on {Path(str(result['data'])).name or result['data']}"


def _read_text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace") if path.is_file() else ""


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The epochs in order; of one that ran twice, before and after an interruption, the second time."""
    epochs: dict[tuple[str, str], dict[str, Any]] = {}
    for line in _read_text(path).splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # cut short when a run was killed
            continue
        if isinstance(entry, dict):
            epochs[str(entry.get("stage")), str(entry.get("epoch", len(epochs)))] = entry
    return list(epochs.values())
