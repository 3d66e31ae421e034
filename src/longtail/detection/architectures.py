"""Networks of detectors: those of torchvision, and a small one for a CPU."""

from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn
from torchvision.models import detection as tv
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from longtail import _random as randomness
from longtail.component import Component
from longtail.detection.model import Detector, SharedMasks
from longtail.detection.settings import DetectorConfig
from longtail.errors import InputError
from longtail.models.cifar import BasicBlock

WIDTH, PYRAMID, BOX_WIDTH, MASK_WIDTH = 32, 64, 128, 32
"""Channels of the small detector: first stage, feature pyramid, box head and mask head."""


def build_detector(
    config: DetectorConfig, classifier: Component, num_classes: int, has_masks: bool, seed: int
) -> Detector:
    """Return an untrained detector, or one with pretrained weights outside its last layers.

    Args:
        config: Architecture and its options.
        classifier: Box classifier.
        num_classes: Classes without background.
        has_masks: Whether the training data have masks.
        seed: Seed of the initial weights.

    Raises:
        InputError: If the weights cannot be loaded, or the architecture needs masks that the data do not have.
    """
    if config.architecture.startswith("maskrcnn") and not has_masks:
        raise InputError(
            f"{config.architecture} learns masks, but the annotations have none; set `model.architecture` to "
            f"{config.architecture.replace('maskrcnn', 'fasterrcnn')}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.key("detector", seed))
        if config.architecture == "small":
            net = _small(config, num_classes, has_masks)
        else:
            net = _torchvision(config, num_classes)
        if config.class_agnostic and net.roi_heads.has_mask():
            old = net.roi_heads.mask_predictor.conv5_mask
            shared = MaskRCNNPredictor(old.in_channels, old.out_channels, 1)
            net.roi_heads.mask_predictor = SharedMasks(shared, num_classes)
        return Detector(net, classifier, num_classes, class_agnostic=config.class_agnostic)


def _options(config: DetectorConfig) -> dict[str, Any]:
    return {
        "box_score_thresh": config.score_threshold,
        "box_nms_thresh": config.nms_threshold,
        "box_detections_per_img": config.detections,
        "box_batch_size_per_image": config.proposals,
        "rpn_post_nms_top_n_train": config.candidates,
        "rpn_post_nms_top_n_test": config.candidates,
    }


def _torchvision(config: DetectorConfig, num_classes: int) -> GeneralizedRCNN:
    build = getattr(tv, config.architecture)
    if config.weights != "coco":
        backbone = "DEFAULT" if config.weights == "imagenet" else None
        return _loaded(config, build, weights=None, weights_backbone=backbone, num_classes=num_classes + 1)
    net = _loaded(config, build, weights="DEFAULT")
    if net.roi_heads.has_mask():
        old = net.roi_heads.mask_predictor.conv5_mask
        net.roi_heads.mask_predictor = MaskRCNNPredictor(old.in_channels, old.out_channels, num_classes + 1)
    return net


def _loaded(config: DetectorConfig, build: Any, **options: Any) -> GeneralizedRCNN:
    """Return a network of torchvision, whose weights are downloaded on first use."""
    try:
        return build(**options, **_options(config))
    except (URLError, OSError, RuntimeError) as error:  # no network, a full disk, a damaged download
        raise InputError(
            f"cannot load the {config.weights} weights of {config.architecture}: {error}; download them on a machine "
            f"with a network and copy the file to {Path(torch.hub.get_dir()) / 'checkpoints'}, or set `model.weights` "
            "to null, which starts from random weights"
        ) from error


def _small(config: DetectorConfig, num_classes: int, has_masks: bool) -> GeneralizedRCNN:
    """Return a detector of 0.7 million parameters: three residual blocks and a feature pyramid."""
    half = WIDTH // 2
    stem = nn.Sequential(nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU())
    stages = {f"stage{i}": BasicBlock(half << i, WIDTH << i, 2) for i in range(3)}
    layers = nn.Sequential(OrderedDict(stem=stem, **stages))
    for module in layers.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    names = {f"stage{i}": str(i) for i in range(3)}
    backbone = BackboneWithFPN(layers, names, [WIDTH, 2 * WIDTH, 4 * WIDTH], PYRAMID)
    sizes = tuple((each,) for each in config.anchors)
    maps = list(names.values())
    options = {
        **_options(config),
        "rpn_anchor_generator": AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        "rpn_pre_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 500,
        "rpn_batch_size_per_image": 64,
        "box_roi_pool": MultiScaleRoIAlign(maps, output_size=5, sampling_ratio=1),
        "box_head": TwoMLPHead(PYRAMID * 5 * 5, BOX_WIDTH),
        "box_predictor": FastRCNNPredictor(BOX_WIDTH, num_classes + 1),
    }
    if not has_masks:
        return FasterRCNN(backbone, **options)
    return MaskRCNN(
        backbone,
        **options,
        mask_roi_pool=MultiScaleRoIAlign(maps, output_size=10, sampling_ratio=1),
        mask_head=MaskRCNNHeads(PYRAMID, (MASK_WIDTH, MASK_WIDTH), 1),
        mask_predictor=MaskRCNNPredictor(MASK_WIDTH, MASK_WIDTH, num_classes + 1),
    )
