"""AutoAugment for CIFAR as batched tensor operations, with a separate sub-policy for every image.

AutoAugment: Learning Augmentation Policies from Data (Cubuk et al., CVPR 2019, https://arxiv.org/abs/1805.09501); the
sub-policies, magnitudes and signs are those of `torchvision.transforms.AutoAugment(AutoAugmentPolicy.CIFAR10)`, the
arithmetic on pixels is that of Pillow.

An operation is a row of numbers (`Op`), so a batch with a different operation for every image is a batch of rows. The
fourteen operations are of three kinds. Every image passes through all three; the numbers of the other kinds change
nothing:

- *warp* (shear, translate, rotate): one gather of pixels, nearest neighbor, in integer arithmetic;
- *table* (posterize, solarize, invert, auto-contrast, equalize): one lookup of levels in 256 entries per channel;
- *blend* (color, brightness, contrast, sharpness): linear interpolation between the image and its degenerate.

Shapes: B = batch, C = 3 color channels, H x W = image size, N = pixels, L = 256 levels, R = uniforms per image,
T = first or second operation, K = sub-policies, G = negative, positive or nothing, P = numbers of an `Op`.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from longtail.errors import unknown_name

PLAIN, AUTOCONTRAST, EQUALIZE = 0, 1, 2
BLACK, GRAY, MEAN_GRAY, SMOOTH = 0, 1, 2, 3
_NOTHING = 2  # in axis G

# (operation, probability, magnitude index) of the first and the second operation of each sub-policy
CIFAR_POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)


class Op(NamedTuple):
    """One operation as numbers; the defaults change nothing.

    Args:
        xx: Entry of the 2 x 2 matrix from an output position to the input position that is read.
        xy: Entry of the matrix, see `xx`.
        yx: Entry of the matrix, see `xx`.
        yy: Entry of the matrix, see `xx`.
        centered: 1 if the fixed point of the matrix is the image center, 0 if it is the upper left corner.
        right: Translation to the right, as a share of the width.
        down: Translation down, as a share of the height.
        mask: Bits of a level that are kept.
        threshold: Level from which levels are inverted.
        table: Kind of table: PLAIN (mask and threshold), AUTOCONTRAST or EQUALIZE.
        degenerate: Image to blend with: BLACK, GRAY, MEAN_GRAY or SMOOTH.
        factor: Factor of the blend: 0 is the degenerate, 1 the image, above 1 exaggerates.
    """

    xx: float = 1.0
    xy: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    centered: float = 0.0
    right: float = 0.0
    down: float = 0.0
    mask: float = 255.0
    threshold: float = 256.0
    table: float = PLAIN
    degenerate: float = BLACK
    factor: float = 1.0


def operation(name: str, magnitude: float = 0.0) -> Op:
    """Return the numbers of an operation.

    Args:
        name: Name in torchvision and the paper ("ShearX", ..., "Invert").
        magnitude: Slope of a shear, translation as a share of the image side, degrees counterclockwise, increment of
            the blend factor of 1, number of bits that posterizing keeps, or level from which solarizing inverts.

    Raises:
        InputError: If the name is unknown.

    Example:
        >>> operation("TranslateX", -0.25).right
        -0.25
    """
    angle = math.radians(magnitude)
    ops = {
        "ShearX": Op(xy=magnitude),
        "ShearY": Op(yx=magnitude),
        "TranslateX": Op(right=magnitude),
        "TranslateY": Op(down=magnitude),
        "Rotate": Op(math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle), centered=1),
        "Brightness": Op(degenerate=BLACK, factor=1 + magnitude),
        "Color": Op(degenerate=GRAY, factor=1 + magnitude),
        "Contrast": Op(degenerate=MEAN_GRAY, factor=1 + magnitude),
        "Sharpness": Op(degenerate=SMOOTH, factor=1 + magnitude),
        "Posterize": Op(mask=256 - 2 ** (8 - magnitude)),
        "Solarize": Op(threshold=magnitude),
        "AutoContrast": Op(table=AUTOCONTRAST),
        "Equalize": Op(table=EQUALIZE),
        "Invert": Op(threshold=0),
    }
    if name not in ops:
        raise unknown_name("operation", name, ops)
    return ops[name]


class AutoAugmentCIFAR(nn.Module):
    """AutoAugment policy for CIFAR-10: per image one of 25 pairs of operations, each with a probability and a sign.

    BALMS trains with the Pillow code of https://github.com/DeepVoltaire/AutoAugment, from which the gray fill is taken.
    All other details follow torchvision. It reads the nearest pixel in a shear (there: bicubic), translates by whole
    pixels, rotates in both directions (there: one), and solarizes from 255 down (there: 256). The probabilities of the
    pairs are equal.

    Args:
        fill: Gray level of the area that a warp brings in from outside the image, 0 to 255. Default: 128. The default
            of torchvision is 0.

    Example:
        >>> augment = AutoAugmentCIFAR()
        >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
        >>> augment(images, torch.rand(4, augment.num_uniforms)).shape
        torch.Size([4, 3, 32, 32])
    """

    num_uniforms: ClassVar[int] = 5
    probability_TK: Tensor
    ops_TKGP: Tensor

    def __init__(self, fill: int = 128) -> None:
        super().__init__()
        self.fill = fill
        turns = tuple(zip(*CIFAR_POLICY, strict=True))  # all first operations, all second ones
        probability = [[probability for _, probability, _ in turn] for turn in turns]
        ops = [[_signed(name, index) for name, _, index in turn] for turn in turns]
        self.register_buffer("probability_TK", torch.tensor(probability), persistent=False)
        self.register_buffer("ops_TKGP", torch.tensor(ops), persistent=False)

    def forward(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Augment uint8 images.

        Args:
            images_BCHW: RGB images, uint8.
            uniforms_BR: Numbers in [0, 1): the pair of operations, whether each of the two is applied, and their signs.
        """
        pair_B = (uniforms_BR[:, 0] * len(CIFAR_POLICY)).long()
        for turn in range(2):
            applied_B = uniforms_BR[:, 1 + turn] < self.probability_TK[turn][pair_B]
            choice_B = torch.where(applied_B, (uniforms_BR[:, 3 + turn] >= 0.5).long(), _NOTHING)
            images_BCHW = apply_operations(images_BCHW, self.ops_TKGP[turn][pair_B, choice_B], self.fill)
        return images_BCHW


def _signed(name: str, index: int) -> tuple[Op, Op, Op]:
    """Return an operation with negative and positive magnitude, and the operation that changes nothing."""
    magnitude, signed = magnitude_of(name, index)
    return operation(name, -magnitude if signed else magnitude), operation(name, magnitude), Op()


def magnitude_of(name: str, index: int) -> tuple[float, bool]:
    """Return magnitude number `index` (0 to 9) of an operation, and whether it is used with a random sign.

    Example:
        >>> magnitude_of("Posterize", 7)
        (5.0, False)
    """
    if name == "Posterize":
        return float(8 - round(index / 2.25)), False
    if name in ("Solarize", "AutoContrast", "Equalize", "Invert"):
        return _tenth(255.0, 0.0, index), False
    translation = 150 / 331
    largest = {"ShearX": 0.3, "ShearY": 0.3, "TranslateX": translation, "TranslateY": translation, "Rotate": 30.0}
    return _tenth(0.0, largest.get(name, 0.9), index), True


def _tenth(first: float, last: float, index: int) -> float:
    """Return one of ten equally spaced numbers, in the single precision of torchvision."""
    return float(torch.linspace(first, last, 10)[index])


def apply_operations(images_BCHW: Tensor, ops_BP: Tensor, fill: int) -> Tensor:
    """Apply the operation of each row to its image. The result depends only on the pixels of the image and its row.

    Args:
        images_BCHW: RGB images, uint8.
        ops_BP: One `Op` per row, float32.
        fill: Gray level of the area that a warp brings in from outside the image, 0 to 255.

    Returns:
        Images of the same shape, uint8.

    Example:
        >>> image = torch.tensor([0, 100, 200], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> apply_operations(image, torch.tensor([operation("Invert")]), fill=0).flatten()
        tensor([255, 155,  55], dtype=torch.uint8)
    """
    op = {name: column_B.view(-1, 1, 1) for name, column_B in zip(Op._fields, ops_BP.unbind(1), strict=True)}
    return _blend_each(_look_up_each(_warp_each(images_BCHW, op, fill), op), op)


def _warp_each(images_BCHW: Tensor, op: dict[str, Tensor], fill: int) -> Tensor:
    height, width = images_BCHW.shape[2:]
    y_BHW, x_BHW = _sources(height, width, op)
    row_BHW, column_BHW = y_BHW.clamp(0, height - 1), x_BHW.clamp(0, width - 1)
    inside_BHW = (row_BHW == y_BHW) & (column_BHW == x_BHW)
    # an additional pixel with the fill represents everything outside the image
    pixel_BHW = torch.where(inside_BHW, row_BHW * width + column_BHW, height * width)
    padded_BCN = pad(images_BCHW.flatten(2), (0, 1), value=fill)
    return padded_BCN.gather(2, pixel_BHW.flatten(1)[:, None].expand(-1, 3, -1)).view_as(images_BCHW)


def _sources(height: int, width: int, op: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the row and column that each pixel is read from, in the 16-bit fixed point of Pillow."""
    device = op["xx"].device
    # single precision times a power of two is exact, and so are all operations below
    xx, xy, yx, yy = ((op[name] * 2**32).long() for name in ("xx", "xy", "yx", "yy"))
    wide, high = op["centered"].long() * width, op["centered"].long() * height  # twice the fixed point
    x_B1W = torch.arange(width, device=device) - (op["right"] * width).long()
    y_BH1 = torch.arange(height, device=device)[:, None] - (op["down"] * height).long()
    start_x = _round_off(wide * 2**32 - xx * (wide - 1) - xy * (high - 1), 17)
    start_y = _round_off(high * 2**32 - yx * (wide - 1) - yy * (high - 1), 17)
    row_BHW = _round_off(yx, 16) * x_B1W + (_round_off(yy, 16) * y_BH1 + start_y)
    column_BHW = _round_off(xy, 16) * y_BH1 + (_round_off(xx, 16) * x_B1W + start_x)
    return row_BHW >> 16, column_BHW >> 16


def _round_off(number: Tensor, bits: int) -> Tensor:
    """Round off the lowest bits of integers."""
    return (number + (1 << (bits - 1))) >> bits


def _look_up_each(images_BCHW: Tensor, op: dict[str, Tensor]) -> Tensor:
    levels_BCN = images_BCHW.flatten(2).long()
    ones_BCN = torch.ones((), dtype=torch.int32, device=levels_BCN.device).expand_as(levels_BCN)
    histogram_BCL = ones_BCN.new_zeros(*levels_BCN.shape[:2], 256).scatter_add_(2, levels_BCN, ones_BCN)
    level_L = torch.arange(256, device=levels_BCN.device)
    flipped_B1L = torch.where(level_L >= op["threshold"], 255 - level_L, level_L) & op["mask"].long()
    table_BCL = torch.where(op["table"] == AUTOCONTRAST, autocontrast_table(histogram_BCL), flipped_B1L.to(torch.uint8))
    table_BCL = torch.where(op["table"] == EQUALIZE, equalize_table(histogram_BCL), table_BCL)
    return table_BCL.gather(2, levels_BCN).view_as(images_BCHW)


def autocontrast_table(histogram_BCL: Tensor) -> Tensor:
    """Compute the table that stretches the used levels to 0 ... 255; the identity for a single level.

    The stretched level is exact, then truncated. Where it is an integer, Pillow and torchvision may be one level lower.

    Args:
        histogram_BCL: Number of pixels of each level, int32.

    Returns:
        New level of each level, uint8, shape (B, C, L).
    """
    used_BCL = histogram_BCL.cumsum(2, dtype=torch.int32)
    low_BC1 = (used_BCL == 0).sum(2, keepdim=True)
    high_BC1 = (used_BCL < used_BCL[..., -1:]).sum(2, keepdim=True)
    distance_BCL = torch.arange(256, device=histogram_BCL.device, dtype=torch.float32) - low_BC1
    return _quotient_table(distance_BCL * 255, high_BC1 - low_BC1)


def equalize_table(histogram_BCL: Tensor) -> Tensor:
    """Compute the table of Pillow's `ImageOps.equalize`, which makes all levels about equally frequent.

    Args:
        histogram_BCL: Number of pixels of each level, int32.

    Returns:
        New level of each level, uint8, shape (B, C, L).
    """
    used_BCL = histogram_BCL.cumsum(2, dtype=torch.int32)
    below_highest_BC1 = torch.where(used_BCL < used_BCL[..., -1:], used_BCL, 0).amax(2, keepdim=True)
    step_BC1 = below_highest_BC1 // 255
    return _quotient_table(used_BCL - histogram_BCL + step_BC1 // 2, step_BC1)


def _quotient_table(numerator_BCL: Tensor, denominator_BC1: Tensor) -> Tensor:
    """Compute the integer part of quotients of integers, clamped to 0 ... 255; the identity for a zero denominator.

    Adding half a unit keeps every quotient away from the integers, so that rounding is the same on all devices.
    """
    table_BCL = ((numerator_BCL + 0.5) / denominator_BC1.clamp(min=1)).clamp_(0, 255).to(torch.uint8)
    unchanged_L = torch.arange(256, device=table_BCL.device, dtype=torch.uint8)
    return torch.where(denominator_BC1 > 0, table_BCL, unchanged_L)


def _blend_each(images_BCHW: Tensor, op: dict[str, Tensor]) -> Tensor:
    kind_B111, gray_B1HW = op["degenerate"][..., None], gray(images_BCHW)
    flat_B111 = torch.where(kind_B111 == MEAN_GRAY, mean_level(gray_B1HW), 0)
    plain_B1HW = torch.where(kind_B111 == GRAY, gray_B1HW, flat_B111)
    degenerate_BCHW = torch.where(kind_B111 == SMOOTH, smooth(images_BCHW), plain_B1HW)
    return blend(images_BCHW, degenerate_BCHW, op["factor"][..., None])


def blend(images_BCHW: Tensor, degenerate_BCHW: Tensor, factor_B111: Tensor) -> Tensor:
    """Interpolate from the degenerate (factor 0) to the image (1) and beyond, truncated as in Pillow's `ImageEnhance`.

    Example:
        >>> image, black = torch.full((1, 3, 1, 1), 99, dtype=torch.uint8), torch.zeros(1, 1, 1, 1)
        >>> blend(image, black, torch.tensor([1.5]).view(1, 1, 1, 1)).flatten()
        tensor([148, 148, 148], dtype=torch.uint8)
    """
    # product and sum separately: a fused operation would round differently
    difference_BCHW = images_BCHW.float().sub_(degenerate_BCHW)
    return difference_BCHW.mul_(factor_B111).add_(degenerate_BCHW).clamp_(0, 255).to(torch.uint8)


def gray(images_BCHW: Tensor) -> Tensor:
    """Convert RGB to luma with the rounding of Pillow's `convert("L")`: uint8, shape (B, 1, H, W).

    Example:
        >>> gray(torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)).item()
        76
    """
    red_BHW, green_BHW, blue_BHW = images_BCHW.int().unbind(1)
    luma_BHW = (19595 * red_BHW + 38470 * green_BHW + 7471 * blue_BHW + 2**15) >> 16
    return luma_BHW.to(torch.uint8)[:, None]


def mean_level(gray_B1HW: Tensor) -> Tensor:
    """Compute the mean of each gray image, rounded to an integer level: uint8, shape (B, 1, 1, 1).

    Example:
        >>> mean_level(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).item()
        128
    """
    num_pixels = gray_B1HW.shape[2] * gray_B1HW.shape[3]
    total_B111 = gray_B1HW.sum((2, 3), keepdim=True)
    return ((2 * total_B111 + num_pixels) // (2 * num_pixels)).to(torch.uint8)


def smooth(images_BCHW: Tensor) -> Tensor:
    """Apply Pillow's `ImageFilter.SMOOTH` (ones around a five, over 13) to uint8 images; border pixels are unchanged.

    Example:
        >>> smooth(torch.tensor([[[[0, 0, 0], [0, 13, 0], [0, 0, 0]]]], dtype=torch.uint8))[0, 0, 1]
        tensor([0, 5, 0], dtype=torch.uint8)
    """
    levels_BCHW = images_BCHW.short()
    columns_BCHW = levels_BCHW[:, :, :-2] + levels_BCHW[:, :, 1:-1] + levels_BCHW[:, :, 2:]
    boxes_BCHW = columns_BCHW[..., :-2] + columns_BCHW[..., 1:-1] + columns_BCHW[..., 2:]
    weighted_BCHW = boxes_BCHW + 4 * levels_BCHW[:, :, 1:-1, 1:-1]
    smoothed_BCHW = images_BCHW.clone()
    smoothed_BCHW[:, :, 1:-1, 1:-1] = (weighted_BCHW * (1 / 13)).round_().to(torch.uint8)  # never a tie: 13 is odd
    return smoothed_BCHW
