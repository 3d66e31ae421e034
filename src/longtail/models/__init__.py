"""Backbones (images to embeddings) and heads (embeddings to logits)."""

from typing import TYPE_CHECKING, Any

from longtail.models.base import Backbone, FeatureBackbone
from longtail.models.cifar import resnet20, resnet32, small_net
from longtail.models.heads import CenteredHead, CosineHead, DisAlignHead, LinearHead, LWSHead, MaxNormHead
from longtail.models.pretrained import TimmBackbone
from longtail.models.transformers_backbone import TransformersBackbone

if TYPE_CHECKING:
    from longtail.posthoc.dlsa import DLSAHead

BACKBONES = ("FeatureBackbone", "TimmBackbone", "TransformersBackbone", "resnet20", "resnet32", "small_net")
HEADS = ("CenteredHead", "CosineHead", "DLSAHead", "DisAlignHead", "LWSHead", "LinearHead", "MaxNormHead")

__all__ = [
    "BACKBONES",
    "HEADS",
    "Backbone",
    "CenteredHead",
    "CosineHead",
    "DLSAHead",
    "DisAlignHead",
    "FeatureBackbone",
    "LWSHead",
    "LinearHead",
    "MaxNormHead",
    "TimmBackbone",
    "TransformersBackbone",
    "resnet20",
    "resnet32",
    "small_net",
]


def __getattr__(name: str) -> Any:
    # DLSAHead is part of posthoc.dlsa, which imports this package: an import at the top would be a cycle
    if name == "DLSAHead":
        from longtail.posthoc.dlsa import DLSAHead

        return DLSAHead
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
