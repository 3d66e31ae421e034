"""Features made up for tests: a file with all three parts, and the parts of which it is made."""

import numpy as np
import torch

from longtail.data.counts import ClassCounts
from longtail.data.formats.features import FeatureRows

COUNTS = [6, 3]
PARTS = ["train"] * 9 + ["val"] * 2 + ["test"] * 4
LABELS = [0] * 6 + [1] * 3 + [0, 1] + [0, 0, 1, 1]


def made_up(views: int = 0, dimension: int = 5) -> tuple[FeatureRows, np.ndarray, np.ndarray]:
    """Rows, embeddings and logits; beside the plain view of the training part, so many others after it."""
    order = [*range(9)] * (1 + views) + [*range(9, 15)]
    parts = np.array([PARTS[index] for index in order])
    labels = torch.tensor([LABELS[index] for index in order])
    view = torch.tensor([index // 9 if index < 9 * (1 + views) else 0 for index in range(len(order))])
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((len(order), dimension)).astype(np.float32)
    logits = rng.standard_normal((len(order), 2)).astype(np.float32)
    about = {"backbone": "small_net", "data": "digits-lt", "names": ["Zürich"]}
    rows = FeatureRows(labels, parts, view, ("cat", "dög"), ClassCounts(COUNTS), about)
    return rows, embeddings, logits


def blocks(embeddings: np.ndarray, logits: np.ndarray | None, size: int = 4) -> list:
    """Cut into blocks, the last one shorter."""
    starts = range(0, len(embeddings), size)
    return [(embeddings[i : i + size], None if logits is None else logits[i : i + size]) for i in starts]
