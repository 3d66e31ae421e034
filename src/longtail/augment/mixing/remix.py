"""Remix (Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020).

https://arxiv.org/abs/2007.03943, Eq. 8 to 10: images are mixed as in mixup, but the label goes to the rarer class alone
where the other class has at least kappa times as many images and the rarer one's share of the image is above 1 - tau.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor

from longtail.augment.mixing.base import Mixing, blend
from longtail.data.counts import Countable
from longtail.errors import InputError


class Remix(Mixing):
    """Mixup that gives the label to the rarer class wherever it may.

    Args:
        class_counts: training images per class, shape (C,).
        alpha: of the Beta distribution of the share of the image.
        kappa: from this ratio of the counts on, one class is a majority to the other.
        tau: share of a majority class in the image below which it gets no label; 0 is mixup.

    Raises:
        InputError: if an option is out of its range.

    Example:
        >>> images, labels = torch.zeros(2, 3, 1, 1), torch.tensor([0, 1])
        >>> share = torch.tensor([[0.4], [0.4]])  # four tenths of the image itself, six of its partner
        >>> Remix([90, 10])(images, labels, images, labels.flip(0), share)[1]  # the first is labelled as the rare one
        tensor([[0.0000, 1.0000], [0.6000, 0.4000]])
    """

    num_uniforms: ClassVar[int] = 1

    def __init__(self, class_counts: Countable, *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(class_counts, alpha=alpha)
        if not (kappa > 1 and 0 <= tau <= 1):
            raise InputError(f"kappa must be above 1 and tau in [0, 1] (the paper takes 3 and 0.5), not {kappa}, {tau}")
        self.kappa, self.tau = kappa, tau

    def mix(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Images, float32, and soft targets; the number is the share of the image."""
        share_B = numbers_BR[:, 0]
        own_B, partner_B = self.counts_C[targets_B], self.counts_C[partner_targets_B]
        to_partner_B = (own_B >= self.kappa * partner_B) & (share_B < self.tau)
        to_own_B = (partner_B >= self.kappa * own_B) & (1 - share_B < self.tau)
        label_share_B = torch.where(to_own_B, 1.0, torch.where(to_partner_B, 0.0, share_B))
        return (
            blend(images_BCHW, partner_images_BCHW, share_B),
            self.soft_targets(targets_B, partner_targets_B, label_share_B),
        )
