"""Average precision and calibration of detections, overall and for rare, common and frequent classes.

The figures are those of the LVIS challenge, computed by `faster-coco-eval` (the extra `detection`). If every image is
annotated for all classes, as in COCO, they equal the COCO figures with up to 300 detections per image.

- AP: mean over classes and the IoU thresholds 0.50, 0.55, ..., 0.95. AP_r, AP_c and AP_f are means over the rare,
  common and frequent classes. Gupta et al., CVPR 2019, https://arxiv.org/abs/1908.03195.
- AP-fixed: no limit per image, and the 10,000 detections of each class with the highest scores over the data set. A
  limit per image rewards a ranking across classes, which the AP of a class does not measure. Dave et al., "Evaluating
  Large-Vocabulary Object Detectors: The Devil is in the Details", 2021, https://arxiv.org/abs/2102.01066.
- ECE: gap of score and precision at IoU 0.5, of the detections with a score of 0.05 or more, grouped by the predicted
  class. A detection of a class that is not verified in its image does not count. Kueppers et al., "Multivariate
  Confidence Calibration for Object Detection", CVPR Workshops 2020, https://arxiv.org/abs/2004.13546, without its
  bins by box.

Shapes: A = areas, C = classes, D = detections, T = IoU thresholds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch

from longtail.detection.data import DetectionDataset, Group
from longtail.detection.results import Record
from longtail.detection.segments import mask_library
from longtail.errors import InputError
from longtail.evaluation.calibration import reliability_by_group
from longtail.ranges import check_number

MAX_PER_IMAGE = 300
"""Detections per image that count, those with the highest scores, as in LVIS."""
MAX_PER_CLASS = 10_000
"""Detections per class that count for AP-fixed."""
MIN_SCORE = 0.05
"""Smallest score of a detection that counts for the calibration."""
GROUPS: tuple[Group, ...] = ("r", "c", "f")
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_IOU50, _IOU75 = 0, 5


@dataclass(frozen=True)
class AveragePrecision:
    """The 13 figures of LVIS, in percent. A figure without a class or an object of its kind is None.

    Args:
        ap: AP, see the top of this module.
        ap50: AP at the IoU threshold 0.50.
        ap75: AP at the IoU threshold 0.75.
        ap_small: AP on objects of up to 32 x 32 pixels.
        ap_medium: AP on objects of up to 96 x 96 pixels.
        ap_large: AP on larger objects.
        ap_r: AP of the rare classes.
        ap_c: AP of the common classes.
        ap_f: AP of the frequent classes.
        ar: Average recall.
        ar_small: Average recall of objects of up to 32 x 32 pixels.
        ar_medium: Average recall of objects of up to 96 x 96 pixels.
        ar_large: Average recall of larger objects.
        per_class: AP of each class, shape (C,).
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ap_r: float | None
    ap_c: float | None
    ap_f: float | None
    ar: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: tuple[float | None, ...]

    def figures(self) -> dict[str, float | None]:
        """Return the 13 figures by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "per_class"}


@dataclass(frozen=True)
class DetectionScores:
    """Scores of detections.

    Args:
        box: Figures by the overlap of boxes.
        mask: Figures by the overlap of masks; None if the data set or the detections have no masks.
        box_fixed: Figures of `box` under the limits of AP-fixed.
        mask_fixed: Figures of `mask` under the limits of AP-fixed.
        ece: Expected calibration error in percent: "all", "r", "c" and "f". None without detections.
        detections: Number of detections.
        max_per_image: Detections per image that count for `box` and `mask`.
    """

    box: AveragePrecision
    mask: AveragePrecision | None
    box_fixed: AveragePrecision
    mask_fixed: AveragePrecision | None
    ece: Mapping[str, float | None]
    detections: int
    max_per_image: int

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as a mapping for JSON."""
        return asdict(self)


def evaluate_detections(
    records: Sequence[Record],
    dataset: DetectionDataset,
    *,
    max_per_image: int = MAX_PER_IMAGE,
    max_per_class: int = MAX_PER_CLASS,
    min_score: float = MIN_SCORE,
) -> DetectionScores:
    """Evaluate detections on a data set.

    Args:
        records: Detections of a result file, see `read_results` and `to_records`.
        dataset: Annotated images. Its `groups` divide the classes.
        max_per_image: Detections per image that count for AP and AR, default 300.
        max_per_class: Detections per class that count for AP-fixed, default 10,000.
        min_score: Smallest score of a detection that counts for the calibration, default 0.05.

    Raises:
        InputError: If a value is out of range, or faster-coco-eval is not installed.

    Example:
        >>> from longtail.detection import Detections, shapes_lt, to_records
        >>> data = shapes_lt("test", images=12)
        >>> targets = [data.sample(index)[1] for index in range(12)]
        >>> perfect = [
        ...     Detections(int(each["image_id"]), each["boxes"], torch.ones(len(each["labels"])), each["labels"])
        ...     for each in targets
        ... ]
        >>> scores = evaluate_detections(to_records(perfect, data), data)
        >>> round(scores.box.ap), round(scores.box.ap_r), scores.ece["all"]
        (100, 100, 0.0)
    """
    check_number("max_per_image", max_per_image, integer=True, at_least=1)
    check_number("max_per_class", max_per_class, integer=True, at_least=1)
    check_number("min_score", min_score, at_least=0, at_most=1)
    mask_library()  # for its error, before the work
    truth = _ground_truth(dataset)
    kinds = ["bbox", *(["segm"] if dataset.has_masks and records and "segmentation" in records[0] else [])]
    limited = _verified(_best(records, "image_id", max_per_image), dataset)
    by_class = _verified(_best(records, "category_id", max_per_class), dataset)
    found: dict[str, AveragePrecision] = {}
    ece: dict[str, float | None] = {}
    for kind in kinds:
        run = _evaluated(truth, limited, kind, max_per_image)
        found[kind] = _figures(run.eval, dataset)
        if kind == "bbox":
            ece = _calibration(run, dataset, min_score)
        found[f"{kind} fixed"] = _figures(_evaluated(truth, by_class, kind, max_per_class).eval, dataset)
    return DetectionScores(
        found["bbox"],
        found.get("segm"),
        found["bbox fixed"],
        found.get("segm fixed"),
        ece,
        len(records),
        max_per_image,
    )


def use_groups_of(dataset: DetectionDataset, train: DetectionDataset) -> None:
    """Group the classes of a data set as those of its training data, by name.

    Args:
        dataset: Data set whose `groups` are set.
        train: Training data.

    Raises:
        InputError: If the training data lack a class.
    """
    groups = dict(zip(train.categories, train.groups, strict=True))
    if lacking := [name for name in dataset.categories if name not in groups]:
        raise InputError(f"the training annotations lack the class {lacking[0]!r}; give those with the same classes")
    dataset.groups = tuple(groups[name] for name in dataset.categories)


def _best(records: Sequence[Record], key: str, limit: int) -> list[Record]:
    """Return the detections with the highest scores per image or class, at most `limit` each, in their order."""
    if not records:
        return []
    owners_D, scores_D = np.array([each[key] for each in records]), np.array([each["score"] for each in records])
    order_D = np.lexsort((np.arange(len(records)), -scores_D, owners_D))
    sorted_D = owners_D[order_D]
    rank_D = np.arange(len(records)) - np.searchsorted(sorted_D, sorted_D)
    return [records[index] for index in np.sort(order_D[rank_D < limit]).tolist()]


def _verified(records: list[Record], dataset: DetectionDataset) -> list[Record]:
    """Return the detections of classes that are verified in their image, to be present or absent."""
    if dataset.verified is None:
        return records
    ids, present = dataset.category_ids, dataset.image_labels(crowds=True)
    counted = {
        image.id: {ids[label] for label in (*dataset.verified.negatives[position], *present[position])}
        for position, image in enumerate(dataset.images)
    }
    return [each for each in records if each["category_id"] in counted[each["image_id"]]]


def _ground_truth(dataset: DetectionDataset) -> Any:
    """Return the annotations as an object of faster-coco-eval. Their ids count from 1, because 0 means "unmatched"."""
    from faster_coco_eval import COCO

    every, ids = frozenset(dataset.category_ids), dataset.category_ids
    images = []
    for position, image in enumerate(dataset.images):
        negative, incomplete = every, frozenset[int]()
        if dataset.verified is not None:
            negative = frozenset(ids[each] for each in dataset.verified.negatives[position])
            incomplete = frozenset(ids[each] for each in dataset.verified.incomplete[position])
        entry = {"id": image.id, "width": image.width, "height": image.height}
        images.append({**entry, "neg_category_ids": negative, "not_exhaustive_category_ids": incomplete})
    categories = [
        {"id": number, "name": name, "frequency": group}
        for number, name, group in zip(ids, dataset.categories, dataset.groups, strict=True)
    ]
    return COCO({"images": images, "categories": categories, "annotations": _annotations(dataset)})


def _annotations(dataset: DetectionDataset) -> list[dict[str, Any]]:
    objects = dataset.objects
    annotations = []
    for position, index in enumerate(objects.image_of_each().tolist()):
        left, top, right, bottom = objects.boxes_A4[position].tolist()
        annotation = {
            "id": position + 1,
            "image_id": dataset.images[index].id,
            "category_id": dataset.category_ids[objects.labels_A[position]],
            "bbox": [left, top, right - left, bottom - top],
            "area": float(objects.areas_A[position]),
            "iscrowd": int(objects.crowd_A[position]),
        }
        if dataset.has_masks:
            image = dataset.images[index]
            annotation["segmentation"] = objects.segments.rle(position, (image.height, image.width))
        annotations.append(annotation)
    return annotations


def _evaluated(truth: Any, records: Sequence[Record], kind: str, limit: int) -> Any:
    """Match detections and objects, and accumulate precision and recall."""
    from faster_coco_eval import COCOeval_faster

    names = ("image_id", "category_id", "score", "bbox", "segmentation")
    used = [
        name for name in names if kind == "segm" or name != "segmentation" or (records and "bbox" not in records[0])
    ]
    found = truth.loadRes([{name: each[name] for name in used if name in each} for each in records])
    run = COCOeval_faster(truth, found, kind, lvis_style=True, print_function=_silent)
    run.params.maxDets = [limit]
    run.evaluate()
    run.accumulate()
    return run


def _silent(*_: object) -> None:
    pass


def _figures(curves: Mapping[str, Any], dataset: DetectionDataset) -> AveragePrecision:
    columns_C = np.argsort(np.argsort(dataset.category_ids))  # the classes of the curves are sorted by id
    ap_TCA = _in_percent(curves["precision"][..., -1].mean(1))[:, columns_C]
    ar_TCA = _in_percent(curves["recall"][..., -1])[:, columns_C]
    groups_C = np.array(dataset.groups)
    return AveragePrecision(
        ap=_mean(ap_TCA[..., _ALL]),
        ap50=_mean(ap_TCA[_IOU50, :, _ALL]),
        ap75=_mean(ap_TCA[_IOU75, :, _ALL]),
        ap_small=_mean(ap_TCA[..., _SMALL]),
        ap_medium=_mean(ap_TCA[..., _MEDIUM]),
        ap_large=_mean(ap_TCA[..., _LARGE]),
        ap_r=_mean(ap_TCA[:, groups_C == "r", _ALL]),
        ap_c=_mean(ap_TCA[:, groups_C == "c", _ALL]),
        ap_f=_mean(ap_TCA[:, groups_C == "f", _ALL]),
        ar=_mean(ar_TCA[..., _ALL]),
        ar_small=_mean(ar_TCA[..., _SMALL]),
        ar_medium=_mean(ar_TCA[..., _MEDIUM]),
        ar_large=_mean(ar_TCA[..., _LARGE]),
        per_class=tuple(_mean(ap_TCA[:, label, _ALL]) for label in range(len(dataset.categories))),
    )


def _in_percent(values: Any) -> np.ndarray[Any, Any]:
    """Return values in percent, and NaN for -1, which marks a class without objects."""
    percent: np.ndarray[Any, Any] = np.where(values < 0, np.nan, 100 * np.asarray(values))
    return percent


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _calibration(run: Any, dataset: DetectionDataset, min_score: float) -> dict[str, float | None]:
    """Return the expected calibration error of the counted detections, overall and by group."""
    truth, found = run.cocoGt.anns, run.cocoDt.anns
    matched = {
        int(detection): int(annotation)
        for (detection, annotation), iou in ((key.split("_"), iou) for key, iou in run.eval["matched"].items())
        if iou >= run.params.iouThrs[0]
    }
    position = {number: label for label, number in enumerate(dataset.category_ids)}
    rows = []
    for number, each in found.items():
        hit = matched.get(number)
        ignored = each.get("lvis_mark") if hit is None else truth[hit]["iscrowd"]
        if not ignored and each["score"] >= min_score:
            rows.append((min(1.0, each["score"]), hit is not None, position[each["category_id"]]))
    if not rows:
        return dict.fromkeys(("all", *GROUPS))
    confidence_D, correct_D, labels_D = (torch.tensor(column) for column in zip(*rows, strict=True))
    members: dict[str, torch.Tensor] = {
        group: torch.tensor([each == group for each in dataset.groups]) for group in GROUPS
    }
    parts = reliability_by_group(confidence_D, correct_D, labels_D, members)
    return {name: part.ece for name, part in parts.items()}
