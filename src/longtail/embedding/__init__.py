"""Losses on embeddings, added to the loss on the logits: `loss = PullLoss(class_counts, embedding_dim)`."""

# base class of custom components; not in `__all__`, which lists the names that recipes may use
from longtail.embedding.base import EmbeddingLoss as EmbeddingLoss
from longtail.embedding.center import CenterLoss
from longtail.embedding.dro import DROLoss
from longtail.embedding.hybrid_contrastive import HybridContrastiveLoss
from longtail.embedding.pull import PullLoss
from longtail.embedding.range import RangeLoss
from longtail.embedding.spreadout import SpreadOutLoss

__all__ = ["CenterLoss", "DROLoss", "HybridContrastiveLoss", "PullLoss", "RangeLoss", "SpreadOutLoss"]
