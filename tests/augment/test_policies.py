"""Batched augmentation against Pillow, torchvision and slow loops, and properties of every policy."""

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torchvision.transforms import functional as tv

from longtail.augment.policies import (
    _POLICIES,
    POLICIES,
    Augment,
    ColorJitter,
    Cutout,
    Flip,
    PadCrop,
    policy,
)
from longtail.data.views import CROP_UNIFORMS
from longtail.errors import InputError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
ALMOST_ONE = 1 - 2**-24  # largest value of torch.rand


def noise(count: int, height: int = 32, width: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def uniforms(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(shape[0]))


def middle(choice: int, count: int) -> float:
    """Return a number in [0, 1) that selects `choice` of `count`."""
    return (choice + 0.5) / count


class Spy:
    """Identity that records its random numbers."""

    def __init__(self, num_uniforms: int) -> None:
        self.num_uniforms = num_uniforms
        self.seen = torch.empty(0)

    def __call__(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        self.seen = uniforms_BR
        return images_BCHW


@pytest.mark.parametrize(("padding", "size"), [(4, (32, 32)), (1, (8, 8)), (2, (5, 7)), (0, (4, 4))])
def test_pad_crop_is_torchvisions_at_every_offset(padding: int, size: tuple[int, int]) -> None:
    side = 2 * padding + 1
    offsets = [(top, left) for top in range(side) for left in range(side)]
    images = noise(len(offsets), *size)
    cut = PadCrop(padding)(images, torch.tensor([[middle(top, side), middle(left, side)] for top, left in offsets]))
    for image, mine, (top, left) in zip(images, cut, offsets, strict=True):
        assert torch.equal(mine, tv.crop(tv.pad(image, padding), top, left, *size))


def test_pad_crop_reaches_every_offset_equally_often() -> None:
    # the white pixel in the middle shows the shift
    images = torch.zeros(40_500, 1, 9, 9, dtype=torch.uint8)
    images[:, :, 4, 4] = 1
    moved = PadCrop(padding=4)(images, uniforms(40_500, 2))
    assert moved.sum((0, 1)).tolist() == pytest.approx(np.full((9, 9), 500), rel=0.2)


def test_pad_crop_stays_within_the_frame_for_the_largest_uniform() -> None:
    images = noise(1)
    assert torch.equal(
        PadCrop(4)(images, torch.full((1, 2), ALMOST_ONE))[0], tv.crop(tv.pad(images[0], 4), 8, 8, 32, 32)
    )


def test_flip_is_torchvisions_for_half_the_images() -> None:
    images, numbers = noise(2000, 2, 3), uniforms(2000, 1)
    flipped = Flip()(images, numbers)
    turned = numbers[:, 0] < 0.5
    assert torch.equal(flipped[turned], tv.hflip(images[turned]))
    assert torch.equal(flipped[~turned], images[~turned])
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.03)


def devries_mask(height: int, width: int, length: int, y: int, x: int) -> Tensor:
    """The square of the authors' code, pixel by pixel."""
    mask = np.ones((height, width), np.uint8)
    y1, y2 = np.clip(y - length // 2, 0, height), np.clip(y + length // 2, 0, height)
    x1, x2 = np.clip(x - length // 2, 0, width), np.clip(x + length // 2, 0, width)
    mask[y1:y2, x1:x2] = 0
    return torch.from_numpy(mask)


@pytest.mark.parametrize(("size", "length"), [((32, 32), 16), ((8, 12), 5), ((6, 6), 20)])
def test_cutout_is_the_authors_at_every_center(size: tuple[int, int], length: int) -> None:
    height, width = size
    centers = [(y, x) for y in range(height) for x in range(width)]
    rows = torch.tensor([[middle(y, height), middle(x, width)] for y, x in centers])
    images = noise(1, height, width).expand(len(centers), -1, -1, -1)
    expected = torch.stack([devries_mask(height, width, length, y, x) for y, x in centers])[:, None] * images
    assert torch.equal(Cutout(length)(images, rows), expected)


def test_color_jitter_is_pillows_three_enhancements() -> None:
    images, numbers = noise(32, 16, 16), uniforms(32, 3)
    jittered = ColorJitter(brightness=0.4, contrast=0.3, saturation=1.0)(images, numbers)
    for image, mine, row in zip(images, jittered, numbers, strict=True):
        brightness, contrast, saturation = (
            float(1 + strength * (2 * u - 1)) for strength, u in zip((0.4, 0.3, 1.0), row, strict=True)
        )
        expected = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = ImageEnhance.Brightness(expected).enhance(brightness)
        expected = ImageEnhance.Contrast(expected).enhance(contrast)
        expected = ImageEnhance.Color(expected).enhance(saturation)
        assert torch.equal(mine, torch.from_numpy(np.array(expected)).permute(2, 0, 1))


def test_color_jitter_of_no_strength_changes_nothing() -> None:
    images = noise(4)
    assert torch.equal(ColorJitter(brightness=0, contrast=0, saturation=0)(images, uniforms(4, 3)), images)


def test_each_transform_gets_its_own_numbers_after_the_readers() -> None:
    first, second = Spy(2), Spy(1)
    augment = Augment([first, second], reader_uniforms=4)
    numbers = uniforms(3, 7)
    augment(noise(3), numbers)
    assert augment.num_uniforms == 7
    assert torch.equal(first.seen, numbers[:, 4:6])
    assert torch.equal(second.seen, numbers[:, 6:])


@pytest.mark.parametrize(
    ("name", "num_uniforms", "reader_uniforms"),
    [("none", 0, 0), ("crop", 2, 0), ("crop-flip", 3, 0), ("autoaugment-cutout", 10, 0), ("imagenet", 8, 4)],
)
def test_uniforms_of_the_policies(name: str, num_uniforms: int, reader_uniforms: int) -> None:
    augment = policy(name)
    assert (augment.num_uniforms, augment.reader_uniforms) == (num_uniforms, reader_uniforms)


def test_imagenet_reserves_the_uniforms_of_the_crop_while_reading() -> None:
    assert policy("imagenet").reader_uniforms == CROP_UNIFORMS


def test_crop_flip_is_crop_then_flip() -> None:
    images, numbers = noise(16), uniforms(16, 3)
    expected = Flip()(PadCrop(4)(images, numbers[:, :2]), numbers[:, 2:])
    assert torch.equal(policy("crop-flip")(images, numbers), expected)


def test_crop_moves_by_at_most_a_pixel_and_never_mirrors() -> None:
    images = noise(200, 8, 8)
    seen = policy("crop")(images, uniforms(200, 2))
    middles = seen[:, 0, 3, 3]
    assert (images[:, 0, 2:5, 2:5] == middles[:, None, None]).any((1, 2)).all()
    assert torch.equal(policy("crop")(images, torch.full((200, 2), 0.5)), images)


def test_cutout_leaves_black_as_before_normalisation() -> None:
    numbers = torch.full((1, 10), 0.5)
    numbers[:, 4:6] = ALMOST_ONE  # neither operation of the pair
    white = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    seen = policy("autoaugment-cutout")(white, numbers)
    assert (seen[..., 8:24, 8:24] == 0).all()
    assert (seen[..., 0, 0] == 255).all()


def test_imagenet_leaves_the_readers_numbers_alone() -> None:
    augment, images, numbers = policy("imagenet"), noise(8), uniforms(8, 8)
    other = numbers.clone()
    other[:, :4] = 0.9
    assert torch.equal(augment(images, numbers), augment(images, other))
    other[:, 4] = 1 - numbers[:, 4]
    assert not torch.equal(augment(images, numbers), augment(images, other))


@pytest.mark.parametrize("name", POLICIES)
def test_an_image_depends_on_itself_and_its_row_alone(name: str) -> None:
    augment, images = policy(name), noise(32)
    numbers = uniforms(32, augment.num_uniforms)
    before, state = images.clone(), torch.get_rng_state()
    together = augment(images, numbers)
    alone = torch.cat([augment(images[i : i + 1], numbers[i : i + 1]) for i in range(32)])
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    assert together.dtype == torch.uint8
    assert together.shape == images.shape
    assert torch.equal(together, augment(images, numbers))
    assert torch.equal(together, alone)
    assert torch.equal(together[order], augment(images[order], numbers[order]))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", POLICIES)
def test_shapes_and_control_flow_depend_on_no_data(name: str) -> None:
    augment, images = policy(name), noise(8)
    numbers = uniforms(8, augment.num_uniforms)
    # a graph without breaks and tensors without data exclude data access
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    assert torch.equal(compiled(images, numbers), augment(images, numbers))
    assert augment.to("meta")(images.to("meta"), numbers.to("meta")).shape == images.shape


@pytest.mark.parametrize("name", POLICIES)
def test_policies_have_nothing_to_save(name: str) -> None:
    assert policy(name).state_dict() == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", POLICIES)
def test_an_accelerator_gives_the_same_images(name: str) -> None:
    augment, images = policy(name), noise(64)
    numbers = uniforms(64, augment.num_uniforms)
    expected = augment(images, numbers)
    device = torch.accelerator.current_accelerator()
    assert device is not None
    seen = augment.to(device)(images.to(device), numbers.to(device)).cpu()
    torch.testing.assert_close(seen, expected, atol=1e-6, rtol=1e-5)


def test_every_policy_says_what_it_does() -> None:
    assert set(POLICIES) == set(_POLICIES)
    assert all(POLICIES.values())


def test_unknown_policy_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=re.escape("no augmentation 'cropflip'; did you mean crop-flip")):
        policy("cropflip")


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="`padding` must be >= 0 pixels, got -1"):
        PadCrop(-1)
    with pytest.raises(InputError, match="`length` must be >= 2 pixels, got 0"):
        Cutout(0)
    with pytest.raises(InputError, match=re.escape("must be in [0, 1], got (0.4, -1, 0.4)")):
        ColorJitter(contrast=-1)
