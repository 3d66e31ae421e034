"""Small image files for the tests of reading data."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def noise(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    """RGB noise that only depends on its seed."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def make_classes(root: Path, counts: dict[str, int], side: int = 8) -> Path:
    """A folder per class with that many different PNGs each."""
    for name, count in counts.items():
        for k in range(count):
            save(root / name / f"{k:03}.png", noise(abs(hash_of(f"{root.name}/{name}/{k}")), side, side))
    return root


def hash_of(text: str) -> int:
    """Unlike `hash`, the same in every process."""
    return int.from_bytes(text.encode()[-8:], "little")
