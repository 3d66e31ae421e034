"""AutoAugment against Pillow, operation by operation and whole policies, and the independence of the images."""

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugment, AutoAugmentPolicy
from torchvision.transforms.v2 import functional as tv

from longtail.augment.autoaugment import (
    CIFAR_POLICY,
    AutoAugmentCIFAR,
    Op,
    apply_operations,
    autocontrast_table,
    blend,
    equalize_table,
    gray,
    magnitude_of,
    mean_level,
    operation,
    smooth,
)
from longtail.errors import InputError

FILL = (128, 128, 128)
AFFINE, NEAREST = Image.Transform.AFFINE, Image.Resampling.NEAREST
ALMOST_ONE = 1 - 2**-24  # largest value of torch.rand


def stretch(image: Image.Image) -> Image.Image:
    """Auto-contrast in integers, level by level; Pillow is one level lower where its doubles round down."""
    pixels = np.array(image)
    for channel in range(3):
        plane = pixels[..., channel]
        low, high = int(plane.min()), int(plane.max())
        if high > low:
            stretched = [min(max((level - low) * 255 // (high - low), 0), 255) for level in range(256)]
            pixels[..., channel] = np.array(stretched, dtype=np.uint8)[plane]
    return Image.fromarray(pixels)


PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "ShearX": lambda image, m: image.transform(image.size, AFFINE, (1, m, 0, 0, 1, 0), NEAREST, fillcolor=FILL),
    "ShearY": lambda image, m: image.transform(image.size, AFFINE, (1, 0, 0, m, 1, 0), NEAREST, fillcolor=FILL),
    "TranslateX": lambda image, m: image.transform(
        image.size, AFFINE, (1, 0, -int(m * image.width), 0, 1, 0), NEAREST, fillcolor=FILL
    ),
    "TranslateY": lambda image, m: image.transform(
        image.size, AFFINE, (1, 0, 0, 0, 1, -int(m * image.height)), NEAREST, fillcolor=FILL
    ),
    "Rotate": lambda image, m: image.rotate(m, NEAREST, fillcolor=FILL),
    "Brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + m),
    "Color": lambda image, m: ImageEnhance.Color(image).enhance(1 + m),
    "Contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + m),
    "Sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + m),
    "Posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "Solarize": lambda image, m: ImageOps.solarize(image, m),
    "AutoContrast": lambda image, m: stretch(image),
    "Equalize": lambda image, m: ImageOps.equalize(image),
    "Invert": lambda image, m: ImageOps.invert(image),
}


def photos(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Return images with soft shapes, noise and, as in photographs, unused levels."""
    generator = torch.Generator().manual_seed(seed)
    shapes = F.interpolate(torch.rand(count, 3, 5, 5, generator=generator), (height, width), mode="bicubic")
    noise = torch.rand(count, 3, height, width, generator=generator)
    offset = torch.rand(count, 3, 1, 1, generator=generator)
    return ((0.75 * shapes + 0.1 * noise + 0.15 * offset).clamp(0, 1) * 255).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def signed_magnitudes(name: str) -> list[float]:
    found = []
    for index in range(10):
        magnitude, signed = magnitude_of(name, index)
        found += [-magnitude, magnitude] if signed else [magnitude]
    return found


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (8, 8)])
@pytest.mark.parametrize("name", PILLOW)
def test_each_operation_is_pillows_at_every_magnitude_and_sign(name: str, size: tuple[int, int]) -> None:
    magnitudes = signed_magnitudes(name)
    images = photos(len(magnitudes), *size)
    ours = apply_operations(images, torch.tensor([operation(name, m) for m in magnitudes]), fill=128)
    theirs = [from_pillow(PILLOW[name](to_pillow(x), m)) for x, m in zip(images, magnitudes, strict=True)]
    assert torch.equal(ours, torch.stack(theirs))


def test_autocontrast_is_never_more_than_a_level_above_pillows_or_below() -> None:
    images = photos(64)
    ours = apply_operations(images, torch.tensor([operation("AutoContrast")] * 64), fill=0).int()
    theirs = torch.stack([from_pillow(ImageOps.autocontrast(to_pillow(x))) for x in images]).int()
    assert set((ours - theirs).unique().tolist()) <= {0, 1}
    assert (ours != theirs).float().mean() < 0.01
    assert (ours - tv.autocontrast(images).int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("name", "theirs", "share"),
    [
        ("Brightness", tv.adjust_brightness, 0.0),
        ("Color", tv.adjust_saturation, 0.3),
        ("Contrast", tv.adjust_contrast, 0.3),
        ("Sharpness", tv.adjust_sharpness, 0.03),
    ],
)
def test_blends_are_within_a_level_of_torchvisions_tensor_code(name: str, theirs: Any, share: float) -> None:
    images, differences = photos(8), []
    for magnitude in signed_magnitudes(name):
        ours = apply_operations(images, torch.tensor([operation(name, magnitude)] * 8), fill=0)
        differences.append((ours.int() - theirs(images, 1 + magnitude).int()).abs())
    difference = torch.stack(differences)
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= share


def test_gray_mean_and_smooth_are_pillows() -> None:
    images = photos(8)
    for image, luma, soft in zip(images, gray(images), smooth(images), strict=True):
        pillow = to_pillow(image)
        assert torch.equal(luma[0], torch.from_numpy(np.array(pillow.convert("L"))))
        assert torch.equal(soft, from_pillow(pillow.filter(ImageFilter.SMOOTH)))
        assert mean_level(luma[None]).item() == int(luma.double().mean().item() + 0.5)


def test_blend_stays_within_the_levels() -> None:
    images = torch.tensor([10, 250], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    degenerate = torch.full((2, 1, 1, 1), 100, dtype=torch.uint8)
    assert blend(images, degenerate, torch.full((2, 1, 1, 1), 2.0))[:, 0].flatten().tolist() == [0, 255]


def test_op_without_arguments_changes_nothing() -> None:
    images = photos(4)
    assert torch.equal(apply_operations(images, torch.tensor([Op()] * 4), fill=7), images)


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize", "Sharpness", "Contrast", "Color"])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5)])
def test_one_level_and_tiny_images_stay_whole(name: str, size: tuple[int, int]) -> None:
    images = torch.full((1, 3, *size), 77, dtype=torch.uint8)
    assert torch.equal(apply_operations(images, torch.tensor([operation(name, 0.9)]), fill=0), images)


def test_tables_by_hand() -> None:
    histogram = torch.zeros(1, 1, 256, dtype=torch.int32)
    histogram[0, 0, [50, 100, 150]] = torch.tensor([300, 210, 90], dtype=torch.int32)
    assert autocontrast_table(histogram)[0, 0, [50, 75, 100, 150]].tolist() == [0, 63, 127, 255]
    # 600 pixels less the 90 of the highest level give steps of two, with one in front
    assert equalize_table(histogram)[0, 0, [50, 100, 150]].tolist() == [0, 150, 255]


def test_fill_is_what_comes_in_from_outside() -> None:
    images = photos(2)
    ops = torch.tensor([operation("TranslateX", 0.25), operation("TranslateY", -0.25)])
    moved = apply_operations(images, ops, fill=9)
    assert moved[0, :, :, :8].unique().tolist() == [9]
    assert moved[1, :, 24:].unique().tolist() == [9]
    assert torch.equal(moved[0, :, :, 8:], images[0, :, :, :24])
    assert torch.equal(moved[1, :, :24], images[1, :, 8:])


def row_for(pair: int, applied: tuple[bool, bool], positive: tuple[bool, bool]) -> list[float]:
    """Return uniforms that select the pair, its application and signs; 0 applies both operations."""
    return [(pair + 0.5) / 25, *(0.0 if a else ALMOST_ONE for a in applied), *(0.75 if p else 0.25 for p in positive)]


@pytest.mark.parametrize("pair", range(25))
def test_each_pair_of_operations_is_torchvisions_table_on_pillow(pair: int) -> None:
    reference = AutoAugment(AutoAugmentPolicy.CIFAR10)
    space = reference._augmentation_space(10, (32, 32))
    cases = list(itertools.product([False, True], repeat=4))
    images = photos(len(cases), seed=pair)
    ours = AutoAugmentCIFAR()(images, torch.tensor([row_for(pair, case[:2], case[2:]) for case in cases]))
    for image, mine, case in zip(images, ours, cases, strict=True):
        expected = to_pillow(image)
        for (name, probability, index), applied, positive in zip(
            reference.policies[pair], case[:2], case[2:], strict=True
        ):
            magnitudes, signed = space[name]
            magnitude = 0.0 if index is None else float(magnitudes[index])
            magnitude = -magnitude if signed and not positive else magnitude
            if name.startswith("Translate"):
                magnitude /= 32  # torchvision's in pixels, ours as a share
            if applied and probability > 0:
                expected = PILLOW[name](expected, magnitude)
        assert torch.equal(mine, from_pillow(expected)), (CIFAR_POLICY[pair], case)


def test_probabilities_are_torchvisions() -> None:
    ours = [[probability for _, probability, _ in pair] for pair in CIFAR_POLICY]
    theirs = [[p for _, p, _ in pair] for pair in AutoAugment(AutoAugmentPolicy.CIFAR10).policies]
    assert ours == theirs


def test_operations_come_as_often_as_their_probability() -> None:
    uniforms = torch.rand(4_000, 5, generator=torch.Generator().manual_seed(0))
    uniforms[:, 0] = 0.01  # the first pair: invert with probability 0.1, contrast with 0.2
    images = torch.zeros(4_000, 3, 2, 2, dtype=torch.uint8)
    images[:, :, 0] = 100
    upper, lower = AutoAugmentCIFAR()(images, uniforms)[:, 0, :, 0].unbind(1)
    contrasted = (upper != 100) & (upper != 255 - 100)
    assert (lower > upper).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert contrasted.float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_every_pair_is_reached_equally_often() -> None:
    count = 25 * 4
    uniforms = torch.zeros(count, 5)
    uniforms[:, 0] = (torch.arange(count) + 0.5) / count
    images = photos(1).expand(count, -1, -1, -1)
    groups = AutoAugmentCIFAR()(images, uniforms).view(25, 4, -1)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert len({group[0].numpy().tobytes() for group in groups}) >= 20  # some pairs equalize or stretch alike


def test_the_largest_uniform_stays_within_the_table() -> None:
    row = torch.full((1, 5), ALMOST_ONE)
    assert torch.equal(AutoAugmentCIFAR()(photos(1), row), photos(1))  # the last pair, not applied


def test_signs_differ() -> None:
    rows = torch.tensor([row_for(3, (True, False), (positive, True)) for positive in (False, True)])
    down, up = AutoAugmentCIFAR()(photos(1).expand(2, -1, -1, -1), rows)
    assert not torch.equal(down, up)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_image_depends_on_itself_and_its_row_alone(memory_format: torch.memory_format) -> None:
    augment, images = AutoAugmentCIFAR(), photos(64).contiguous(memory_format=memory_format)
    before = images.clone()
    uniforms = torch.rand(64, 5, generator=torch.Generator().manual_seed(1))
    together = augment(images, uniforms)
    alone = [augment(images[i : i + 1], uniforms[i : i + 1]) for i in range(64)]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together[order], augment(images[order], uniforms[order]))
    assert torch.equal(images, before)


def test_fill_of_the_policy_is_gray_unless_chosen() -> None:
    row = torch.tensor([row_for(21, (True, True), (True, True))])
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert AutoAugmentCIFAR()(white, row).unique().tolist() == [128, 255]
    assert AutoAugmentCIFAR(fill=0)(white, row).unique().tolist() == [0, 255]


def test_unknown_operation_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("no operation 'Invrt'; did you mean Invert")):
        operation("Invrt")
