"""Table of the scores of detections."""

from collections.abc import Mapping

from longtail.detection.evaluation import AveragePrecision, DetectionScores
from longtail.report.tables import Cell, Column, Table
from longtail.report.wording import number

_HEADS = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_r": "AP_r",
    "ap_c": "AP_c",
    "ap_f": "AP_f",
    "ar": "AR",
}


def detection_table(rows: Mapping[str, DetectionScores]) -> Table:
    """List scores in percent: a row for boxes and, if there are masks, a row for masks.

    Args:
        rows: Scores by the name to show.
    """
    columns = [
        Column(""),
        *(Column(head, "right") for head in _HEADS.values()),
        Column("AP-fixed", "right", "The 10,000 best detections of each class, without a limit per image"),
        Column("ECE", "right", "Expected calibration error of the detections at IoU 0.5"),
        *(Column(f"ECE_{group}", "right") for group in "rcf"),
    ]
    body = []
    for name, scores in rows.items():
        body.append(_row(f"{name}: boxes", scores.box, scores.box_fixed, scores))
        if scores.mask is not None:
            body.append(_row(f"{name}: masks", scores.mask, scores.mask_fixed, None))
    return Table(columns, body)


def _row(
    name: str, found: AveragePrecision, fixed: AveragePrecision | None, calibration: DetectionScores | None
) -> list[Cell]:
    values = [*(getattr(found, key) for key in _HEADS), None if fixed is None else fixed.ap]
    errors = [None if calibration is None else calibration.ece[group] for group in ("all", "r", "c", "f")]
    return [Cell(name), *(Cell(number(value)) for value in [*values, *errors])]
