"""A tiny detector for tests."""

import torch

from longtail.component import Component
from longtail.detection.architectures import build_detector
from longtail.detection.settings import DetectorConfig

TINY = DetectorConfig(
    architecture="small", anchors=(8, 16, 24, 32), candidates=20, proposals=16, score_threshold=0.0, detections=5
)


def tiny_detector(classifier="softmax", num_classes=3, masks=True, seed=0, config=TINY):
    return build_detector(config, Component(classifier), num_classes, masks, seed)


def annotated(num_images=2, side=32, masks=True):
    """Return images with a rectangle each, and their targets."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for index in range(num_images):
        image = torch.randint(0, 80, (3, side, side), dtype=torch.uint8, generator=generator)
        left, top = 4 + 2 * index, 6
        image[:, top : top + 12, left : left + 14] = 250
        target = {
            "boxes": torch.tensor([[left, top, left + 14, top + 12]], dtype=torch.float32),
            "labels": torch.tensor([index % 3 + 1]),
        }
        if masks:
            target["masks"] = torch.zeros(1, side, side, dtype=torch.uint8)
            target["masks"][0, top : top + 12, left : left + 14] = 1
        images.append(image)
        targets.append(target)
    return images, targets
