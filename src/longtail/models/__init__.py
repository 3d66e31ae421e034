"""Backbones from image to embedding, and heads from embedding to logits."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from longtail.posthoc.dlsa.head import DLSAHead


def __getattr__(name: str) -> Any:
    """Import `DLSAHead` on first use: it belongs to a method that itself builds on the other heads."""
    if name == "DLSAHead":
        from longtail.posthoc.dlsa.head import DLSAHead

        return DLSAHead
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
