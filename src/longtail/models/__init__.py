"""Backbones from image to embedding, and heads from embedding to logits."""

from longtail.models.heads import CosineHead, DisAlignHead, LinearHead, LWSHead, MaxNormHead
from longtail.models.resnet_cifar import resnet20, resnet32
from longtail.models.small import small_net

BACKBONES = ("resnet20", "resnet32", "small_net")
HEADS = ("CosineHead", "DisAlignHead", "LWSHead", "LinearHead", "MaxNormHead")

__all__ = [
    "BACKBONES",
    "HEADS",
    "CosineHead",
    "DisAlignHead",
    "LWSHead",
    "LinearHead",
    "MaxNormHead",
    "resnet20",
    "resnet32",
    "small_net",
]
