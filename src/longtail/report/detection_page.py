"""Report of a detection run: scores, every class, and drawn detections in images with the worst classes."""

from pathlib import Path

import torch

from longtail.detection.data import DetectionDataset
from longtail.detection.evaluation import DetectionScores
from longtail.detection.results import Detections, Record, draw, read_results
from longtail.detection.run import DetectionRun
from longtail.report.detection import detection_table
from longtail.report.html import render_page, write_page
from longtail.report.images import Example, png_uri
from longtail.report.tables import Cell, Column, Table
from longtail.report.wording import number

WORST_CLASSES, IMAGES_PER_CLASS = 4, 3
GROUP_NAMES = {"r": "rare", "c": "common", "f": "frequent"}
MIN_SCORE = 0.3
"""Smallest score of a drawn detection."""


def write_detection_report(run: DetectionRun, test: DetectionDataset, target: Path | None = None) -> Path:
    """Write the report of a finished detection run.

    Args:
        run: Finished run with its scores.
        test: Images on which it was evaluated.
        target: File to write. Default: report.html in the folder of the run.

    Returns:
        The file.

    Raises:
        InputError: If the file cannot be written.
    """
    scores, result = run.scores, run.result
    assert scores is not None
    found = detections_by_image(read_results(run.folder / "detections.json", test), test)
    page = render_page(
        "detection.html.j2",
        title=f"{result['data']}: {run.config.method}",
        subtitle=f"recipe {run.config.recipe}, seed {run.config.seed}, {len(test)} images, {result['evaluated_on']}",
        warnings=(),
        scores=detection_table({run.config.method: scores}),
        classes=class_table(scores, result, test),
        worst=[(name, examples) for name, examples in worst_classes(scores, found, test)],
        cost=result["cost"],
        command=result["command"],
    )
    return write_page(target or run.folder / "report.html", page)


def detections_by_image(records: list[Record], test: DetectionDataset) -> dict[int, Detections]:
    """Return the entries of a result file by the number of the image."""
    labels = {number: label for label, number in enumerate(test.category_ids, 1)}
    grouped: dict[int, list[Record]] = {}
    for record in records:
        grouped.setdefault(record["image_id"], []).append(record)
    found = {}
    for image, own in grouped.items():
        boxes = torch.tensor([record["bbox"] for record in own])
        boxes[:, 2:] += boxes[:, :2]
        masks = [record["segmentation"] for record in own] if "segmentation" in own[0] else None
        found[image] = Detections(
            image,
            boxes,
            torch.tensor([record["score"] for record in own]),
            torch.tensor([labels[record["category_id"]] for record in own]),
            masks,
        )
    return found


def class_table(scores: DetectionScores, result: dict[str, list[int]], test: DetectionDataset) -> Table:
    """Return a table of every class, from the most to the least frequent."""
    counts = result["image_counts"]
    columns = [
        Column("class", names=True),
        Column("group"),
        Column("training images", "right"),
        Column("training instances", "right"),
        Column("AP box", "right", "Average precision by the overlap of boxes, in percent"),
        Column("AP mask", "right", "Average precision by the overlap of masks, in percent"),
    ]
    rows = []
    for label in sorted(range(len(counts)), key=lambda each: -counts[each]):
        mask = None if scores.mask is None else scores.mask.per_class[label]
        values = (scores.box.per_class[label], mask)
        plain = [test.categories[label], GROUP_NAMES[test.groups[label]]]
        numbers = [f"{counts[label]:,}", f"{result['instance_counts'][label]:,}", *(number(value) for value in values)]
        rows.append([Cell(text) for text in [*plain, *numbers]])
    return Table(columns, rows)


def worst_classes(
    scores: DetectionScores, found: dict[int, Detections], test: DetectionDataset
) -> list[tuple[str, list[Example]]]:
    """Return the classes with the lowest AP, each with images of its objects and the detections in them."""
    main = scores.box if scores.mask is None else scores.mask
    known = [(value, label) for label, value in enumerate(main.per_class) if value is not None]
    labels = test.image_labels()
    worst = []
    for value, label in sorted(known)[:WORST_CLASSES]:
        images = [index for index in range(len(test)) if label in labels[index]][:IMAGES_PER_CLASS]
        examples = [_example(test, index, label, found.get(test.images[index].id)) for index in images]
        worst.append((f"{test.categories[label]}: AP {number(value)}", examples))
    return worst


def _example(test: DetectionDataset, index: int, label: int, found: Detections | None) -> Example:
    pixels, _ = test.sample(index)
    drawn = pixels if found is None else draw(pixels, found, test.categories, min_score=MIN_SCORE, width=1)
    shown = 0 if found is None else int((found.scores >= MIN_SCORE).sum())
    name = test.categories[label]
    return Example(
        uri=png_uri(drawn),
        tiny=False,
        alt=f"Test image {test.images[index].id} with {name}, and {shown} detections",
        path=str(test.images[index].file),
        predicted=f"{shown} detections of a score of {MIN_SCORE} or more",
    )
