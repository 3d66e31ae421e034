"""`shapes-lt`: a synthetic, long-tailed data set of drawn shapes in the layout of LVIS, generated from a seed.

Each of 12 classes is a shape in a color. Sizes, angles, shades, and backgrounds are random, so the objects of a class
differ, and the classes of one shape resemble each other. Nothing is downloaded or written.

Shapes: N = images, C = classes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from longtail._random import key
from longtail.detection.coco import from_mapping
from longtail.detection.data import DetectionDataset, groups_by_count
from longtail.ranges import check_number

Points = list[tuple[float, float]]
SHAPES = ("circle", "square", "triangle", "star", "cross", "arc")
COLORS = {"red": (205, 70, 60), "blue": (65, 95, 205)}
CLASSES = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS)
FREQUENCY_ORDER = (7, 2, 9, 0, 5, 10, 3, 6, 1, 8, 4, 11)
"""Classes from the most to the least frequent, so that the frequency depends on neither the shape nor the color."""
SIDE = 96
TRAIN_IMAGES, TEST_IMAGES = 400, 200
MOST_IMAGES = 240
TEST_IMAGES_PER_CLASS = 35
_RADII = (9.0, 19.0)
_ATTEMPTS = 30


def shapes_lt(
    split: Literal["train", "test"] = "train",
    *,
    seed: int = 0,
    images: int | None = None,
    imbalance_factor: float = 80.0,
) -> DetectionDataset:
    """Generate a split of `shapes-lt`: images of 96 x 96 pixels with boxes and masks.

    In the training split, class k of the frequency order is in n * imbalance_factor^(-k / (C - 1)) images, where n is
    60% of the images. In the test split, each class is in the same number of images. The groups are those of the
    training split.

    Args:
        split: "train" or "test".
        seed: Seed of both splits, which share no image.
        images: Number of images. Default: 400 for training, 200 for the test.
        imbalance_factor: Training images with the most frequent class over those with the least frequent one.

    Raises:
        InputError: If a value is out of range.

    Example:
        >>> train = shapes_lt()
        >>> len(train), sorted(train.image_counts_C.tolist())[::11]
        (400, [3, 240])
    """
    check_number("images", images, integer=True, optional=True, at_least=len(CLASSES))
    check_number("imbalance_factor", imbalance_factor, at_least=1)
    number = images or (TRAIN_IMAGES if split == "train" else TEST_IMAGES)
    train_counts = _train_counts(TRAIN_IMAGES if split == "test" else number, imbalance_factor)
    test_counts = [max(1, round(TEST_IMAGES_PER_CLASS * number / TEST_IMAGES))] * len(CLASSES)
    counts = train_counts if split == "train" else test_counts
    scenes = list(_scenes(counts, number, seed, split))
    mapping = _lvis_mapping(scenes, train_counts)
    return from_mapping(mapping, read=_Drawing(scenes), need_images=False)


def _train_counts(images: int, imbalance_factor: float) -> list[int]:
    counts = [0] * len(CLASSES)
    for rank, label in enumerate(FREQUENCY_ORDER):
        share = imbalance_factor ** (-rank / (len(CLASSES) - 1))
        counts[label] = max(1, round(MOST_IMAGES / TRAIN_IMAGES * images * share))
    return counts


class Shape(NamedTuple):
    """One drawn object.

    Args:
        label: Class, from 0.
        points: Corners of the polygon in pixels.
        color: Red, green and blue in 0 to 255.
    """

    label: int
    points: Points
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """Content of one image.

    Args:
        shapes: Objects; a later one is drawn over an earlier one.
        noise_seed: Seed of the background.
    """

    shapes: tuple[Shape, ...]
    noise_seed: int


def _scenes(counts_C: list[int], images: int, seed: int, split: str) -> Iterator[Scene]:
    """Yield scenes in which class c is in exactly `counts_C[c]` images."""
    random = np.random.default_rng(key("shapes-lt", split, seed))
    labels_N: list[list[int]] = [[] for _ in range(images)]
    load_N = np.zeros(images)
    for label in sorted(range(len(counts_C)), key=lambda each: -counts_C[each]):
        # images with fewer classes so far come first, more or less: classes meet in all pairs, and few images are empty
        chosen = np.argsort(load_N + 3 * random.random(images))[: counts_C[label]]
        load_N[chosen] += 1
        for index in chosen.tolist():
            labels_N[index] += [label] * (1 + int(random.random() < 0.25))
    for index, labels in enumerate(labels_N):
        random = np.random.default_rng(key("shapes-lt", split, seed, index))
        yield Scene(tuple(_placed(labels, random)), int(random.integers(2**31)))


def _placed(labels: list[int], random: np.random.Generator) -> list[Shape]:
    """Place shapes so that their circles do not touch, if there is room."""
    circles: list[tuple[float, float, float]] = []
    shapes = []
    for label in labels:
        for attempt in range(_ATTEMPTS):
            radius = random.uniform(_RADII[0], _RADII[1] - (_RADII[1] - _RADII[0]) * attempt / _ATTEMPTS)
            x, y = random.uniform(radius, SIDE - radius, 2)
            if all(math.hypot(x - a, y - b) > radius + r for a, b, r in circles):
                break
        circles.append((x, y, radius))
        outline = _outline(SHAPES[label // len(COLORS)])
        turn = random.uniform(0, 2 * math.pi)
        turned = outline @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        points = [(float(x + radius * a), float(y + radius * b)) for a, b in turned]
        base = list(COLORS.values())[label % len(COLORS)]
        red, green, blue = (int(np.clip(value + random.normal(0, 28), 0, 255)) for value in base)
        shapes.append(Shape(label, points, (red, green, blue)))
    return shapes


def _outline(shape: str) -> np.ndarray[Any, Any]:
    """Return the corners of a shape within the unit circle, shape (P, 2)."""
    match shape:
        case "circle":
            return _on_circle(24)
        case "square":
            return _on_circle(4)
        case "triangle":
            return _on_circle(3)
        case "star":
            return _on_circle(10) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None]
        case "cross":
            arm = [(0.95, -0.3), (0.95, 0.3), (0.3, 0.3)]
            quarter = np.array([[0, 1], [-1, 0]])
            return np.concatenate([np.array(arm) @ np.linalg.matrix_power(quarter, turn) for turn in range(4)])
        case _:  # arc: along the circle, and back along a smaller one
            angles = np.linspace(-1.9, 1.9, 17)
            outer = np.stack([np.cos(angles), np.sin(angles)], 1)
            return np.concatenate([outer, 0.45 * outer[::-1]])


def _on_circle(corners: int) -> np.ndarray[Any, Any]:
    angles = 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _lvis_mapping(scenes: list[Scene], train_counts: list[int]) -> dict[str, Any]:
    groups = groups_by_count(train_counts)
    categories = [
        {"id": label + 1, "name": name, "image_count": train_counts[label], "frequency": groups[label]}
        for label, name in enumerate(CLASSES)
    ]
    images = [
        {"id": index + 1, "file_name": f"{index:04}.png", "width": SIDE, "height": SIDE} for index in range(len(scenes))
    ]
    annotations: list[dict[str, Any]] = []
    for index, scene in enumerate(scenes):
        for shape in scene.shapes:
            annotations.append({"id": len(annotations) + 1, "image_id": index + 1, **_annotation(shape)})
    return {"images": images, "categories": categories, "annotations": annotations}


def _annotation(shape: Shape) -> dict[str, Any]:
    xs, ys = np.clip(np.array(shape.points).T, 0, SIDE)
    area = 0.5 * abs(float(xs @ np.roll(ys, 1) - ys @ np.roll(xs, 1)))
    box = [float(xs.min()), float(ys.min()), float(np.ptp(xs)), float(np.ptp(ys))]
    polygon = np.stack([xs, ys], 1).ravel().tolist()
    return {"category_id": shape.label + 1, "bbox": box, "area": area, "segmentation": [polygon]}


class _Drawing:
    """Pixels of the scenes, drawn when they are needed."""

    def __init__(self, scenes: list[Scene]) -> None:
        self._scenes = scenes

    def __call__(self, index: int) -> Tensor:
        scene = self._scenes[index]
        random = np.random.default_rng(scene.noise_seed)
        coarse = Image.fromarray(
            (random.integers(80, 180, (5, 5, 1)) + random.integers(-25, 26, (5, 5, 3))).astype(np.uint8)
        )
        image = coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(image)
        for shape in scene.shapes:
            pen.polygon(shape.points, fill=shape.color)
        noisy = np.asarray(image) + random.normal(0, 10, (SIDE, SIDE, 1))
        return torch.from_numpy(noisy.clip(0, 255).astype(np.uint8)).permute(2, 0, 1)
