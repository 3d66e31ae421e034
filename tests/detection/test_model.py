"""Detectors: outputs, scores, regression loss and equality with torchvision."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss

from longtail.component import Component
from longtail.detection.adjust import adjust_classifier
from longtail.detection.architectures import build_detector
from longtail.detection.model import BoxPredictor, LongTailRoIHeads, box_regression_loss
from longtail.detection.settings import DetectorConfig
from longtail.errors import InputError
from tests.detection.tiny import TINY, annotated, tiny_detector


def test_a_sigmoid_predictor_starts_at_the_prior():
    predictor = BoxPredictor(8, 3, "sigmoid")
    logits, offsets = predictor(torch.zeros(2, 8))
    assert logits.shape == (2, 3)
    assert offsets.shape == (2, 16)
    assert torch.allclose(logits.sigmoid(), torch.full((2, 3), 0.001))
    assert predictor.cls_score.bias[0].item() == pytest.approx(-math.log(999))


def test_class_agnostic_boxes_are_shared():
    _, offsets = BoxPredictor(8, 3, "softmax", class_agnostic=True)(torch.randn(2, 8))
    assert torch.equal(offsets[:, :4], offsets[:, 8:12])


def test_the_regression_loss_is_that_of_torchvision():
    logits, offsets = torch.randn(6, 4), torch.randn(6, 16)
    labels, targets = torch.tensor([0, 1, 3, 0, 2, 2]), torch.randn(6, 4)
    _, expected = fastrcnn_loss(logits, offsets, [labels], [targets])
    assert torch.allclose(box_regression_loss(offsets, labels, targets), expected)


def test_detections_of_softmax_are_those_of_torchvision():
    heads = tiny_detector(masks=False).heads
    heads.score_thresh, heads.nms_thresh = 0.2, 0.4
    boxes = torch.rand(30, 4, generator=torch.Generator().manual_seed(1)) * 16
    boxes[:, 2:] += boxes[:, :2]
    generator = torch.Generator().manual_seed(2)
    logits, offsets = torch.randn(30, 4, generator=generator), torch.randn(30, 16, generator=generator)
    arguments = (logits, offsets, [boxes[:12], boxes[12:]], [(32, 32), (30, 28)])
    ours = LongTailRoIHeads.postprocess_detections(heads, *arguments)
    theirs = RoIHeads.postprocess_detections(heads, *arguments)
    for mine, its in zip(ours, theirs, strict=True):
        for one, other in zip(mine, its, strict=True):
            assert torch.allclose(one, other)


@pytest.mark.parametrize("classifier", ["softmax", "sigmoid"])
@pytest.mark.parametrize("masks", [True, False])
def test_losses_and_detections(classifier, masks):
    model = tiny_detector(classifier, masks=masks)
    images, targets = annotated(masks=masks)
    outputs = model(images, targets)
    assert outputs["box_logits"].shape[1] == (4 if classifier == "softmax" else 3)
    assert ("loss_mask" in outputs) == masks == model.has_masks
    assert outputs["box_labels"].max() <= 3
    model.eval()
    found = model.detect(images, [(64, 64), (32, 32)])
    assert [len(each["boxes"]) for each in found] == [5, 5]
    assert found[0]["boxes"].max() > 32, "in the coordinates of the file"
    assert (found[0]["scores"].diff() <= 0).all()
    assert found[0]["labels"].min() >= 1
    if masks:
        assert found[0]["masks"].shape == (5, 1, 64, 64)


def test_an_image_without_objects_trains():
    images, targets = annotated(1)
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    empty["masks"] = torch.zeros(0, 32, 32, dtype=torch.uint8)
    outputs = tiny_detector()([images[0], images[0]], [targets[0], empty])
    assert all(value.isfinite().all() for value in outputs.values())
    assert all(value.isfinite().all() for value in tiny_detector()(images, [empty]).values())


def test_rows_are_the_input_of_the_classifier():
    model = tiny_detector().eval()
    images, targets = annotated()
    rows, labels = model.rows(images, targets)
    assert rows.shape == (sum(len(each) for each in labels), 128)
    assert any((each > 0).any() for each in labels), "the annotated boxes are among the proposals"


def test_initial_weights_are_a_function_of_the_seed():
    first, again, other = (tiny_detector(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.roi_heads.box_head.fc6.weight"], other["net.roi_heads.box_head.fc6.weight"])


def test_shared_masks():
    config = DetectorConfig(**{**vars(TINY), "class_agnostic": True})
    model = tiny_detector(config=config)
    masks = model.heads.mask_predictor(torch.randn(2, 32, 10, 10))
    assert masks.shape == (2, 4, 20, 20)
    assert torch.equal(masks[:, 0], masks[:, 3])


@pytest.mark.parametrize("architecture", ["maskrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2"])
def test_detectors_of_torchvision(architecture, monkeypatch):
    class Meta(nn.Module):  # the real networks take seconds to initialize
        pass

    config = DetectorConfig(architecture=architecture)
    with torch.device("meta"):
        model = build_detector(config, Component("balanced-sigmoid"), 7, True, 0)
    assert model.predictor.cls_score.out_features == 7
    assert model.predictor.cls_score.in_features == 1024
    assert model.heads.detections_per_img == 300
    if model.has_masks:
        assert model.heads.mask_predictor.mask_fcn_logits.out_channels == 8


def test_masks_are_needed():
    with pytest.raises(InputError, match="fasterrcnn_resnet50_fpn"):
        build_detector(DetectorConfig(architecture="maskrcnn_resnet50_fpn"), Component("softmax"), 3, False, 0)


def test_a_classifier_with_other_outputs_is_refused():
    model = tiny_detector("softmax")
    model.use_classifier(Component("balanced-softmax"))
    assert model.head_component.name == "balanced-softmax"
    with pytest.raises(InputError, match="softmax outputs"):
        model.use_classifier(Component("balanced-sigmoid"))


@pytest.mark.parametrize("classifier", ["softmax", "sigmoid"])
def test_post_hoc_logit_adjustment(classifier):
    predictor = tiny_detector(classifier).predictor
    before = predictor.cls_score.bias.detach().clone()
    adjust_classifier(predictor, "LogitAdjustment", 2.0, torch.tensor([90, 9, 9]))
    moved = predictor.cls_score.bias.detach() - before
    mean = 36.0
    expected = [-2 * math.log(n / mean) for n in (90, 9, 9)]
    background = [0.0] if classifier == "softmax" else []
    assert torch.allclose(moved, torch.tensor([*background, *expected]), atol=1e-5)


def test_tau_normalization_keeps_background_and_the_mean_length():
    predictor = tiny_detector("softmax").predictor
    nn.init.normal_(predictor.cls_score.weight, std=0.1)
    with torch.no_grad():
        predictor.cls_score.weight[1] *= 5
    before = predictor.cls_score.weight.detach().clone()
    adjust_classifier(predictor, "TauNormalization", 1.0, torch.tensor([90, 9, 1]))
    lengths = predictor.cls_score.weight.detach().norm(dim=1)
    assert torch.equal(predictor.cls_score.weight[0], before[0])
    assert torch.allclose(lengths[1:], before[1:].norm(dim=1).mean().expand(3), atol=1e-6)
    adjust_classifier(predictor, "TauNormalization", 0.0, torch.tensor([90, 9, 1]))
    assert torch.allclose(predictor.cls_score.weight.norm(dim=1), lengths, atol=1e-6)
