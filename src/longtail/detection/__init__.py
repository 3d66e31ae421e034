"""Object detection and instance segmentation on long-tailed data."""

from longtail.detection.augment import View, view_uniforms
from longtail.detection.coco import read_annotations
from longtail.detection.data import DetectionDataset
from longtail.detection.evaluation import DetectionScores, evaluate_detections, use_groups_of
from longtail.detection.results import Detections, draw, encode_masks, read_results, to_records, write_results
from longtail.detection.shapes import shapes_lt

__all__ = [
    "DetectionDataset",
    "DetectionScores",
    "Detections",
    "View",
    "draw",
    "encode_masks",
    "evaluate_detections",
    "read_annotations",
    "read_results",
    "shapes_lt",
    "to_records",
    "use_groups_of",
    "view_uniforms",
    "write_results",
]
