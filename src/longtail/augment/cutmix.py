"""CutMix and CMO: a box of one image pasted over another, with the label shared by area.

The box is that of the authors' code (`clovaai/CutMix-PyTorch`, which CMO shares): its center is anywhere in the image,
the part outside is cut off, and an odd side loses a pixel.
Shapes: B = batch, C = color channels of images, classes of targets, H x W = image size.
"""

from typing import ClassVar

import torch
from torch import Tensor

import longtail.samplers as samplers
from longtail.augment.mixing import Mixing
from longtail.component import find_class
from longtail.data.counts import Countable
from longtail.ranges import check_number

BOX_NUMBERS = 4
"""Random numbers per image: share of the image, row and column of the center, and whether there is a box."""


class CutMix(Mixing):
    """CutMix: a box of another image of the batch pasted over each image, with the label shared by area.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019,
    https://arxiv.org/abs/1905.04899, Sec. 3.1. As in the authors' code, the label is shared by the area that the box
    covers within the image: the code replaces the lambda drawn by the exact ratio of pixels.

    Args:
        class_counts: Training images per class, shape (C,); only the number of classes is used.
        alpha: Parameter of the Beta distribution of the share of the image that remains. Default: 1.
        probability: Probability that an image is mixed, in (0, 1]. The authors use 0.5 (default) for CIFAR and 1 for
            ImageNet.

    Raises:
        InputError: If an option is out of range.

    Example:
        >>> import torch
        >>> images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
        >>> numbers = torch.tensor([[0.75, 0.5, 0.5, 0.0], [0.75, 0.5, 0.5, 0.9]])  # a box of 2 x 2, and none
        >>> CutMix([9, 1])(images, labels, images, labels.flip(0), numbers)[1]
        tensor([[0.7500, 0.2500], [0.0000, 1.0000]])
    """

    num_uniforms: ClassVar[int] = BOX_NUMBERS

    def __init__(self, class_counts: Countable, *, alpha: float = 1.0, probability: float = 0.5) -> None:
        super().__init__(class_counts, alpha=alpha)
        check_number("probability", probability, above=0, at_most=1)
        self.probability = probability

    def mix(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return images of unchanged type and soft targets. The numbers are those of `paste`."""
        mixed_BCHW, kept_B = paste(images_BCHW, partner_images_BCHW, numbers_BR, self.probability)
        return mixed_BCHW, self.soft_targets(targets_B, partner_targets_B, kept_B)


class CMO(CutMix):
    """CMO: boxes of images of rare classes pasted over ordinary images, which gives rare classes rich backgrounds.

    Park et al., "The Majority Can Help the Minority: Context-rich Minority Oversampling", CVPR 2022,
    https://arxiv.org/abs/2112.00412, Algorithm 1: CutMix with the ordinary batch as background and a minority-weighted
    batch as pasted foreground.

    The published results are those of the authors' code (`naver-ai/cmo`), which draws each *image* with the weight 1 /
    n of its class, so all classes equally often. The formula in the text may also mean that each *class* is drawn in
    proportion to 1 / n: use `foregrounds="ReversedSampler"` for that. The code counts epochs from 0 and mixes where 3 <
    epoch < epochs - 3, so it omits one more epoch at the beginning.

    Args:
        class_counts: Training images per class, shape (C,); only the number of classes is used.
        alpha: Parameter of the Beta distribution of the share of the background that remains. Default: 1.
        probability: Probability that an image gets a foreground, in (0, 1]. Default: 0.5.
        off_first: Epochs without mixing at the beginning of a stage. Default: 3.
        off_last: Epochs without mixing at the end of a stage. Default: 3.
        foregrounds: Name of the sampler of the pasted images. Default: `ClassBalancedSampler`.

    Raises:
        InputError: If an option is out of range, or the sampler is unknown.

    Example:
        >>> import torch
        >>> background, foreground = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> numbers = torch.tensor([[0.0, 0.5, 0.0, 0.0]])
        >>> CMO([90, 10])(background, torch.tensor([0]), foreground, torch.tensor([1]), numbers)
        (tensor([[[[0., 1.],
                   [0., 1.]]]]), tensor([[0.5000, 0.5000]]))
    """

    def __init__(
        self,
        class_counts: Countable,
        *,
        alpha: float = 1.0,
        probability: float = 0.5,
        off_first: int = 3,
        off_last: int = 3,
        foregrounds: str = "ClassBalancedSampler",
    ) -> None:
        super().__init__(class_counts, alpha=alpha, probability=probability)
        check_number("off_first", off_first, "epochs", integer=True, at_least=0)
        check_number("off_last", off_last, "epochs", integer=True, at_least=0)
        self.off_first, self.off_last, self.foregrounds = off_first, off_last, foregrounds
        self.partner_sampler = find_class(foregrounds, samplers)


def paste(
    images_BCHW: Tensor, partner_images_BCHW: Tensor, numbers_BR: Tensor, probability: float
) -> tuple[Tensor, Tensor]:
    """Paste a box of each partner over its image, at the same position.

    Args:
        images_BCHW: Images of any type, which is kept.
        partner_images_BCHW: Partners of the same shape.
        numbers_BR: Four numbers per image: the share of the image that remains and, from [0, 1), row and column of the
            center of the box and a number that is compared with `probability`.
        probability: Probability of a box.

    Returns:
        Images (B, C, H, W), and the share of its own pixels that each image keeps, shape (B,).

    Example:
        >>> white, black = torch.ones(1, 1, 4, 4, dtype=torch.uint8), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
        >>> paste(white, black, torch.tensor([[0.75, 0.5, 0.0, 0.0]]), 1.0)  # a box of 2 x 2, half of it outside
        (tensor([[[[1, 1, 1, 1],
                   [0, 1, 1, 1],
                   [0, 1, 1, 1],
                   [1, 1, 1, 1]]]], dtype=torch.uint8), tensor([0.8750]))
    """
    share_B, row_B, column_B, chance_B = numbers_BR.unbind(1)
    side_B = torch.where(chance_B < probability, (1 - share_B).sqrt(), 0.0)
    rows_BH = _within(side_B, row_B, images_BCHW.shape[2])
    columns_BW = _within(side_B, column_B, images_BCHW.shape[3])
    box_B1HW = (rows_BH[:, :, None] & columns_BW[:, None])[:, None]
    kept_B = 1 - rows_BH.float().mean(1) * columns_BW.float().mean(1)
    return torch.where(box_B1HW, partner_images_BCHW, images_BCHW), kept_B


def _within(side_B: Tensor, center_B: Tensor, length: int) -> Tensor:
    """Return a mask of the pixels in a span whose side and center are given as shares of `length`."""
    half_B1 = ((side_B * length).long() // 2)[:, None]
    center_B1 = (center_B * length).long()[:, None]
    position = torch.arange(length, device=side_B.device)
    return (position >= center_B1 - half_B1) & (position < center_B1 + half_B1)
