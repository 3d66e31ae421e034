"""CutMix (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", ICCV 2019).

https://arxiv.org/abs/1905.04899, Sec. 3.1: a box of another image is pasted over the image, and the label is shared by
area. As in the code of CMO, it is shared by the area that the box really covers; the authors' code shares it by the
lambda drawn, also where a part of the box falls outside.
"""

from typing import ClassVar

from torch import Tensor

from longtail.augment.mixing.base import Mixing
from longtail.augment.mixing.boxes import BOX_NUMBERS, checked_probability, paste
from longtail.data.counts import Countable


class CutMix(Mixing):
    """Paste a box of another image of the batch over each image, and share the label by area.

    Args:
        class_counts: training images per class, shape (C,); only their number is used.
        alpha: of the Beta distribution of the share that stays of the image.
        probability: how often an image is mixed; the authors take 0.5 for CIFAR and 1 for ImageNet.

    Raises:
        InputError: if an option is out of its range.

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
        self.probability = checked_probability(probability)

    def mix(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Images, of the type they had, and soft targets; the numbers are those of `boxes.paste`."""
        mixed_BCHW, kept_B = paste(images_BCHW, partner_images_BCHW, numbers_BR, self.probability)
        return mixed_BCHW, self.soft_targets(targets_B, partner_targets_B, kept_B)
