"""Object detection and instance segmentation on long-tailed data."""

from longtail.detection.augment import View
from longtail.detection.coco import read_annotations
from longtail.detection.data import DetectionDataset
from longtail.detection.shapes import shapes_lt

__all__ = ["DetectionDataset", "View", "read_annotations", "shapes_lt"]
