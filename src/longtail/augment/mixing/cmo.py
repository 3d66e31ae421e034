"""CMO (Park et al., "The Majority Can Help the Minority: Context-rich Minority Oversampling", CVPR 2022).

https://arxiv.org/abs/2112.00412, Algorithm 1: CutMix whose background is the ordinary batch and whose pasted foreground
comes from a second, minority-weighted one. The published figures are those of the authors' code (`naver-ai/cmo`), which
draws each *image* with the weight 1 / n of its class, and so every class equally often. To draw each *class* in
proportion to 1 / n, as the formula of the text may be read, say `foregrounds="ReversedSampler"`. The code, whose epochs
begin at 0, mixes where 3 < epoch < epochs - 3, and so leaves out one epoch more at the beginning.
"""

from typing import ClassVar

from torch import Tensor

import longtail.samplers as samplers
from longtail.augment.mixing.base import Mixing
from longtail.augment.mixing.boxes import BOX_NUMBERS, checked_probability, paste
from longtail.component import find_class
from longtail.data.counts import Countable
from longtail.errors import InputError


class CMO(Mixing):
    """Paste boxes of rare classes' images over ordinary ones, so that rare classes are seen on rich backgrounds.

    Args:
        class_counts: training images per class, shape (C,); only their number is used here.
        alpha: of the Beta distribution of the share that stays of the background.
        probability: how often an image gets a foreground.
        off_first: epochs without mixing at the beginning of a stage.
        off_last: epochs without mixing at its end.
        foregrounds: class of `longtail.samplers` that draws the images that are pasted.

    Raises:
        InputError: if an option is out of its range, or there is no such sampler.

    Example:
        >>> import torch
        >>> background, foreground = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> numbers = torch.tensor([[0.0, 0.5, 0.0, 0.0]])
        >>> CMO([90, 10])(background, torch.tensor([0]), foreground, torch.tensor([1]), numbers)
        (tensor([[[[0., 1.],
                   [0., 1.]]]]), tensor([[0.5000, 0.5000]]))
    """

    num_uniforms: ClassVar[int] = BOX_NUMBERS

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
        super().__init__(class_counts, alpha=alpha)
        if not all(isinstance(epochs, int) and epochs >= 0 for epochs in (off_first, off_last)):
            raise InputError(f"off_first and off_last are numbers of epochs, 0 or more, not {off_first}, {off_last}")
        self.probability = checked_probability(probability)
        self.off_first, self.off_last = off_first, off_last
        self.partner_sampler = find_class(foregrounds, samplers)

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
