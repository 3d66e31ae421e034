"""Backbones from image to embedding, and heads from embedding to logits."""

from longtail.models.dlsa_head import DLSAHead
from longtail.models.feature_backbone import FeatureBackbone
from longtail.models.heads import CosineHead, DisAlignHead, LinearHead, LWSHead, MaxNormHead
from longtail.models.resnet_cifar import resnet20, resnet32
from longtail.models.small import small_net
from longtail.models.timm_backbone import TimmBackbone

BACKBONES = ("FeatureBackbone", "TimmBackbone", "resnet20", "resnet32", "small_net")
HEADS = ("CosineHead", "DLSAHead", "DisAlignHead", "LWSHead", "LinearHead", "MaxNormHead")

__all__ = [
    "BACKBONES",
    "HEADS",
    "CosineHead",
    "DLSAHead",
    "DisAlignHead",
    "FeatureBackbone",
    "LWSHead",
    "LinearHead",
    "MaxNormHead",
    "TimmBackbone",
    "resnet20",
    "resnet32",
    "small_net",
]
