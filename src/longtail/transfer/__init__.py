"""Transfers: augmentation in feature space, in which head classes lend variation to tail classes during training."""

from longtail.transfer.isda import ISDA
from longtail.transfer.semantic_transfer import SemanticTransfer

__all__ = ["ISDA", "SemanticTransfer"]
