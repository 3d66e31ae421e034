"""Transfers: augmentation in feature space, in which head classes lend variation to tail classes during training."""

# base class of custom components; not in `__all__`, which lists the names that recipes may use
from longtail.transfer.base import Transfer as Transfer
from longtail.transfer.isda import ISDA
from longtail.transfer.semantic_transfer import SemanticTransfer

__all__ = ["ISDA", "SemanticTransfer"]
