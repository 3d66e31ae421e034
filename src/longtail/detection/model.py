"""Detectors of torchvision with the box classifiers of this library.

`Detector` wraps a Faster R-CNN or Mask R-CNN of torchvision. Its box predictor and RoI heads are replaced. The
predictor has C + 1 softmax logits or C sigmoids (`box_losses`). In training, the heads return the logits and
labels of the proposals, so that a loss outside the model evaluates them.
Shapes: B = proposals, C = classes without background, D = width of the box head, K = outputs of the classifier,
R = sets of box offsets: C + 1, or 1 if all classes share them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import boxes as box_ops

from longtail.component import Component
from longtail.detection.box_losses import PRIOR_PROBABILITY, Activation, box_classifier, scores_of
from longtail.errors import InputError

Target = Mapping[str, Tensor]
"""Annotation of an image: `boxes` (n, 4), `labels` (n,) in 1 .. C, `masks` (n, H, W) for a detector with masks."""


class BoxPredictor(nn.Module):
    """Last layers of the box head: class logits and box offsets.

    Args:
        in_features: Width of the box head, D.
        num_classes: Classes without background, C.
        activation: "softmax" for C + 1 logits, background first; "sigmoid" for C logits.
        class_agnostic: Predict one box per proposal instead of one per class.
    """

    def __init__(
        self, in_features: int, num_classes: int, activation: Activation, *, class_agnostic: bool = False
    ) -> None:
        super().__init__()
        self.num_classes, self.activation, self.class_agnostic = num_classes, activation, class_agnostic
        self.cls_score = nn.Linear(in_features, num_classes + (activation == "softmax"))
        self.bbox_pred = nn.Linear(in_features, 4 * (1 if class_agnostic else num_classes + 1))
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.normal_(self.bbox_pred.weight, std=0.001)
        bias = -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY) if activation == "sigmoid" else 0.0
        nn.init.constant_(self.cls_score.bias, bias)
        nn.init.zeros_(self.bbox_pred.bias)

    def forward(self, features_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and box offsets (B, 4 (C + 1)), those of background first."""
        rows_BD = features_BD.flatten(start_dim=1)
        offsets: Tensor = self.bbox_pred(rows_BD)
        if self.class_agnostic:
            offsets = offsets.repeat(1, self.num_classes + 1)
        return self.cls_score(rows_BD), offsets


class SharedMasks(nn.Module):
    """Mask predictor that gives all classes the same mask.

    Args:
        predictor: Predictor of torchvision with one output channel.
        num_classes: Classes without background, C.
    """

    def __init__(self, predictor: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.predictor, self.num_classes = predictor, num_classes

    def forward(self, features: Tensor) -> Tensor:
        """Return mask logits, shape (B, C + 1, h, w)."""
        logits: Tensor = self.predictor(features)
        return logits.expand(-1, self.num_classes + 1, -1, -1)


class LongTailRoIHeads(RoIHeads):  # type: ignore[misc]  # torchvision has no types
    """RoI heads whose classifier is a `BoxPredictor` and whose classification loss is computed by the caller.

    Args:
        heads: RoI heads of torchvision, whose parts and settings are taken over.
        predictor: Box predictor.
    """

    def __init__(self, heads: RoIHeads, predictor: BoxPredictor) -> None:
        super().__init__(
            heads.box_roi_pool,
            heads.box_head,
            predictor,
            fg_iou_thresh=heads.proposal_matcher.high_threshold,
            bg_iou_thresh=heads.proposal_matcher.low_threshold,
            batch_size_per_image=heads.fg_bg_sampler.batch_size_per_image,
            positive_fraction=heads.fg_bg_sampler.positive_fraction,
            bbox_reg_weights=heads.box_coder.weights,
            score_thresh=heads.score_thresh,
            nms_thresh=heads.nms_thresh,
            detections_per_img=heads.detections_per_img,
            mask_roi_pool=heads.mask_roi_pool,
            mask_head=heads.mask_head,
            mask_predictor=heads.mask_predictor,
        )

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detect, or compute what the losses need.

        Args:
            features: Feature maps of the backbone.
            proposals: Boxes of the region proposal network, one tensor per image.
            image_shapes: Height and width of each resized image.
            targets: Annotations; needed in training.

        Returns:
            Detections; and in training "box_logits" (B, K), "box_labels" (B,), "loss_box_reg" and "loss_mask".
        """
        if self.training:
            return [], self._train(features, proposals, image_shapes, targets)
        logits_BK, offsets = self.box_predictor(self.rows(features, proposals, image_shapes))
        found = self.postprocess_detections(logits_BK, offsets, proposals, image_shapes)
        detections = [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in zip(*found, strict=True)]
        if self.has_mask():
            logits = self._mask_logits(features, [each["boxes"] for each in detections], image_shapes)
            masks = maskrcnn_inference(logits, [each["labels"] for each in detections])
            for each, mask in zip(detections, masks, strict=True):
                each["masks"] = mask
        return detections, {}

    def rows(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        """Return the input of the classifier for each proposal, shape (B, D)."""
        rows: Tensor = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        return rows.flatten(start_dim=1)

    def _train(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Sequence[Target] | None,
    ) -> dict[str, Tensor]:
        proposals, matched, labels, offset_targets = self.select_training_samples(proposals, targets)
        logits_BK, offsets = self.box_predictor(self.rows(features, proposals, image_shapes))
        labels_B = torch.cat(labels)
        losses = {
            "box_logits": logits_BK,
            "box_labels": labels_B,
            "loss_box_reg": box_regression_loss(offsets, labels_B, torch.cat(offset_targets)),
        }
        if self.has_mask():
            assert targets is not None
            positive = [torch.where(each > 0)[0] for each in labels]
            boxes = [proposal[index] for proposal, index in zip(proposals, positive, strict=True)]
            losses["loss_mask"] = maskrcnn_loss(
                self._mask_logits(features, boxes, image_shapes),
                boxes,
                [target["masks"] for target in targets],
                [target["labels"] for target in targets],
                [match[index] for match, index in zip(matched, positive, strict=True)],
            )
        return losses

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, image_shapes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the boxes, scores and labels of each image after suppression of overlapping boxes of one class."""
        lengths = [len(each) for each in proposals]
        scores_BC = scores_of(class_logits, self.box_predictor.activation)
        boxes_BC4 = self.box_coder.decode(box_regression, proposals)[:, 1:]
        images = zip(torch.split(boxes_BC4, lengths), torch.split(scores_BC, lengths), image_shapes, strict=True)
        kept = [self._kept(*image) for image in images]
        boxes, scores, labels = (list(each) for each in zip(*kept, strict=True))
        return boxes, scores, labels

    def _kept(self, boxes_BC4: Tensor, scores_BC: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        row, column = torch.where(scores_BC > self.score_thresh)
        boxes, scores, labels = boxes_BC4[row, column], scores_BC[row, column], column + 1
        boxes = box_ops.clip_boxes_to_image(boxes, shape)
        large = box_ops.remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, labels = boxes[large], scores[large], labels[large]
        keep = box_ops.batched_nms(boxes, scores, labels, self.nms_thresh)[: self.detections_per_img]
        return boxes[keep], scores[keep], labels[keep]


def box_regression_loss(offsets: Tensor, labels_B: Tensor, targets_B4: Tensor) -> Tensor:
    """Return the smooth L1 loss of the boxes of foreground proposals, over the number of all proposals.

    Args:
        offsets: Predicted offsets of each class, shape (B, 4 (C + 1)).
        labels_B: Classes, 0 for background.
        targets_B4: Offsets to the annotated boxes.
    """
    foreground = torch.where(labels_B > 0)[0]
    own_4 = offsets.view(len(offsets), -1, 4)[foreground, labels_B[foreground]]
    total = nn.functional.smooth_l1_loss(own_4, targets_B4[foreground], beta=1 / 9, reduction="sum")
    return total / max(len(labels_B), 1)


class KeepSize(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalization and batching of images that have their final size."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        """Return image and target as they are."""
        return image, target


class Detector(nn.Module):
    """Detector with a box classifier of this library.

    Args:
        net: Faster R-CNN or Mask R-CNN of torchvision. Its box predictor is replaced.
        classifier: Box classifier, see `longtail.detection.box_losses`.
        num_classes: Classes without background, C.
        class_agnostic: Predict one box per proposal instead of one per class.

    Raises:
        InputError: If the box classifier is unknown.
    """

    def __init__(
        self, net: GeneralizedRCNN, classifier: Component, num_classes: int, *, class_agnostic: bool = False
    ) -> None:
        super().__init__()
        activation = box_classifier(classifier).activation
        width = net.roi_heads.box_predictor.cls_score.in_features
        predictor = BoxPredictor(width, num_classes, activation, class_agnostic=class_agnostic)
        net.roi_heads = LongTailRoIHeads(net.roi_heads, predictor)
        net.transform = KeepSize(1, 1, net.transform.image_mean, net.transform.image_std)
        self.net, self.num_classes, self.head_component = net, num_classes, classifier

    @property
    def heads(self) -> LongTailRoIHeads:
        """RoI heads."""
        heads: LongTailRoIHeads = self.net.roi_heads
        return heads

    @property
    def predictor(self) -> BoxPredictor:
        """Box predictor."""
        predictor: BoxPredictor = self.heads.box_predictor
        return predictor

    @property
    def has_masks(self) -> bool:
        """Whether the detector predicts masks."""
        return bool(self.heads.has_mask())

    def structure(self) -> dict[str, Any]:
        """Return the part of a checkpoint that names the box classifier."""
        return {"head": self.head_component.to_mapping()}

    def use_classifier(self, classifier: Component) -> None:
        """Replace the kind of the box classifier and keep its weights.

        Raises:
            InputError: If the kind has other outputs.
        """
        activation = box_classifier(classifier).activation
        if activation != self.predictor.activation:
            raise InputError(
                f"{classifier.name} has {activation} outputs, but the detector was trained with "
                f"{self.head_component.name}, which has {self.predictor.activation} outputs; train it with "
                f"a classifier of the same kind, such as {activation}"
            )
        self.head_component = classifier

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what the losses of a batch need: those of torchvision, "box_logits" and "box_labels".

        Args:
            images: Images, uint8, or float in [0, 1]; each (3, H, W).
            targets: Annotations.
        """
        outputs: dict[str, Tensor] = self.net(self._floats(images), targets)
        return outputs

    @torch.no_grad()
    def detect(self, images: list[Tensor], sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """Return the detections of images, in the coordinates of the files. Needs evaluation mode.

        Args:
            images: Images, uint8, or float in [0, 1]; each (3, H, W).
            sizes: Height and width of each file.

        Returns:
            For each image `boxes` (n, 4), `scores` (n,) in falling order, `labels` (n,) in 1 .. C, and `masks`
            (n, 1, H, W) in [0, 1] of a detector with masks.
        """
        batch, _ = self.net.transform(self._floats(images))
        features = self.net.backbone(batch.tensors)
        proposals, _ = self.net.rpn(batch, features)
        detections, _ = self.heads(features, proposals, batch.image_sizes)
        found: list[dict[str, Tensor]] = self.net.transform.postprocess(detections, batch.image_sizes, sizes)
        return found

    @torch.no_grad()
    def rows(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> tuple[Tensor, list[Tensor]]:
        """Return the input of the classifier and the label for a sample of the proposals of annotated images.

        The sample is that of training. Needs evaluation mode.

        Args:
            images: Images, uint8, or float in [0, 1]; each (3, H, W).
            targets: Annotations.

        Returns:
            Rows (B, D) of all images, and the labels of the rows of each image, 0 for background.
        """
        batch: ImageList
        batch, targets = self.net.transform(self._floats(images), targets)
        features = self.net.backbone(batch.tensors)
        proposals, _ = self.net.rpn(batch, features)
        sampled, _, labels, _ = self.heads.select_training_samples(proposals, targets)
        return self.heads.rows(features, sampled, batch.image_sizes), labels

    def _floats(self, images: list[Tensor]) -> list[Tensor]:
        dtype = self.predictor.cls_score.weight.dtype
        return [image.to(dtype) / 255 if image.dtype == torch.uint8 else image for image in images]
