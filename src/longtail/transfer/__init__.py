"""Transfers: classes lend each other variation in the space of features, while the net is trained."""

from longtail.transfer.isda import ISDA
from longtail.transfer.semantic_transfer import SemanticTransfer

__all__ = ["ISDA", "SemanticTransfer"]
