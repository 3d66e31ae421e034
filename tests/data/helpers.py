from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from longtail.data.counts import ClassCounts
from longtail.data.formats.features import FeatureRows


def noise(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    """Return RGB noise that depends only on the seed."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def make_classes(root: Path, counts: dict[str, int], side: int = 8) -> Path:
    """Write one folder per class with the given number of different PNGs."""
    for name, count in counts.items():
        for k in range(count):
            save(root / name / f"{k:03}.png", noise(abs(hash_of(f"{root.name}/{name}/{k}")), side, side))
    return root


def hash_of(text: str) -> int:
    """Return an integer that, unlike `hash`, is the same in every process."""
    return int.from_bytes(text.encode()[-8:], "little")


COUNTS = [6, 3]
PARTS = ["train"] * 9 + ["val"] * 2 + ["test"] * 4
LABELS = [0] * 6 + [1] * 3 + [0, 1] + [0, 0, 1, 1]


def made_up(views: int = 0, dimension: int = 5) -> tuple[FeatureRows, np.ndarray, np.ndarray]:
    """Return rows, embeddings and logits, with `views` augmented views of the training rows after the plain ones."""
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
    """Cut arrays into blocks, of which the last may be shorter."""
    starts = range(0, len(embeddings), size)
    return [(embeddings[i : i + size], None if logits is None else logits[i : i + size]) for i in starts]
