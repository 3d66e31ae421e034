"""RandAugment as batched tensor operations, with separate operations for every image.

RandAugment: Practical Automated Data Augmentation with a Reduced Search Space (Cubuk et al., NeurIPS 2020,
https://arxiv.org/abs/1909.13719). The operations and their arithmetic are those of `longtail.augment.autoaugment`.

Shapes: B = batch, C = 3 color channels, H x W = image size, R = uniforms per image, K = operations,
G = negative or positive, P = numbers of an `Op`.
"""

import torch
from torch import Tensor, nn

from longtail.augment.autoaugment import Op, apply_operations, magnitude_of, operation
from longtail.ranges import check_number

OPERATIONS = (
    *("AutoContrast", "Equalize", "Rotate", "Posterize", "Solarize", "Color", "Contrast", "Brightness", "Sharpness"),
    *("ShearX", "ShearY", "TranslateX", "TranslateY"),
)
"""The operations of the paper, apart from the identity."""


class RandAugment(nn.Module):
    """Random operations of one strength: each image gets `operations` of 14, the identity among them.

    The strength of the paper for ImageNet, two operations of magnitude 9 of 30, is about magnitude 3 of 9 here.

    Args:
        operations: Number of operations in sequence.
        magnitude: Strength from 0 to 9, as in AutoAugment.
        fill: Gray level of the area that a warp brings in from outside the image, 0 to 255.

    Raises:
        InputError: If an option is out of range.

    Example:
        >>> augment = RandAugment()
        >>> augment(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.rand(4, augment.num_uniforms)).shape
        torch.Size([4, 3, 32, 32])
    """

    ops_KGP: Tensor

    def __init__(self, *, operations: int = 2, magnitude: int = 3, fill: int = 128) -> None:
        super().__init__()
        check_number("operations", operations, "2 in the paper", integer=True, at_least=1)
        check_number("magnitude", magnitude, "3 is usual", integer=True, at_least=0, at_most=9)
        check_number("fill", fill, "a gray level", integer=True, at_least=0, at_most=255)
        self.num_uniforms, self.fill = 2 * operations, fill
        ops = [[Op(), Op()], *(_signed(name, magnitude) for name in OPERATIONS)]
        self.register_buffer("ops_KGP", torch.tensor(ops), persistent=False)

    def forward(self, images_BCHW: Tensor, uniforms_BR: Tensor) -> Tensor:
        """Augment uint8 images.

        Args:
            images_BCHW: RGB images, uint8.
            uniforms_BR: Numbers in [0, 1): for each operation in sequence its choice and its sign.
        """
        for choice_B, sign_B in _pairs(uniforms_BR):
            kind_B = (choice_B * len(self.ops_KGP)).long()
            images_BCHW = apply_operations(images_BCHW, self.ops_KGP[kind_B, (sign_B >= 0.5).long()], self.fill)
        return images_BCHW


def _pairs(uniforms_BR: Tensor) -> list[tuple[Tensor, Tensor]]:
    columns = uniforms_BR.unbind(1)
    return list(zip(columns[0::2], columns[1::2], strict=True))


def _signed(name: str, index: int) -> list[Op]:
    magnitude, signed = magnitude_of(name, index)
    return [operation(name, -magnitude if signed else magnitude), operation(name, magnitude)]
