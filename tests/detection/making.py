"""Small annotation files and images for the tests of detection."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]


def mapping(**changes: Any) -> dict[str, Any]:
    """Return two images of 32 x 24 pixels with three objects of two classes."""
    content: dict[str, Any] = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 32, "height": 24},
            {"id": 9, "file_name": "b.png", "width": 32, "height": 24},
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 5, "bbox": [2, 2, 8, 8], "segmentation": SQUARE, "area": 64},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [2, 2, 8, 8], "segmentation": SQUARE, "area": 64},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [2, 2, 8, 8], "segmentation": SQUARE, "area": 64},
        ],
    }
    return {**content, **changes}


def changed(**annotation: Any) -> dict[str, Any]:
    """Return `mapping` with changes to its first annotation."""
    content = mapping()
    content["annotations"][0].update(annotation)
    return content


def write(folder: Path, content: Any, images: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    """Write an annotation file and its images, 32 x 24 pixels of random colors."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(folder / name)
    (folder / "annotations.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "annotations.json"
