"""The contract of every mixing: two images and labels become one image and a soft label, and randomness is data.

As in `longtail.augment.policies`, the caller draws the random numbers, an epoch at a time; image i then depends on
nothing but image i, its partner and row i. Shapes are static, and nothing waits for the device. The authors' code
draws one share for a whole batch; here each image has its own, which has the same expectation and less variance.
Shapes: B = batch, C = colour channels of images, classes of targets, H x W = image size, R = numbers of an image.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.samplers.base import Sampler


class Mixing(nn.Module):
    """A way of mixing each image with a partner. Subclasses implement `mix`.

    Args:
        class_counts: training images per class, shape (C,); a tensor, a list or `ClassCounts`.
        alpha: the share of the image, as against its partner's, is drawn from Beta(alpha, alpha): uniform for 1, near
            0 or 1 for less.

    Raises:
        InputError: if `alpha` is not positive.
    """

    counts_C: Tensor
    # how many random numbers an image takes; the first of them decides its share
    num_uniforms: ClassVar[int]
    # from where the partners are drawn; None takes the images of the same batch in another order
    partner_sampler: type[Sampler] | None = None
    # epochs at the beginning and at the end of a stage in which nothing is mixed
    off_first: int = 0
    off_last: int = 0

    def __init__(self, class_counts: Countable, *, alpha: float = 1.0) -> None:
        super().__init__()
        if not 0 < alpha < math.inf:
            raise InputError(f"alpha of the Beta distribution must be positive (1 draws shares evenly), not {alpha}")
        self.alpha = alpha
        self.register_buffer("counts_C", ClassCounts(class_counts).counts.float(), persistent=False)

    def numbers(self, uniforms_BR: Tensor) -> Tensor:
        """What `forward` takes, from numbers in [0, 1): the first column becomes a draw from Beta(alpha, alpha).

        Runs on the CPU, outside the training step.

        Args:
            uniforms_BR: shape (..., `num_uniforms`).

        Example:
            >>> from longtail.augment.mixing import Mixup
            >>> Mixup([9, 1], alpha=0.5).numbers(torch.tensor([[0.25], [0.5]]))  # sin(pi u / 2) ** 2
            tensor([[0.1464],
                    [0.5000]])
        """
        if self.alpha == 1:
            return uniforms_BR
        from scipy.special import betaincinv  # takes a moment to import, and is seldom needed

        shares = betaincinv(self.alpha, self.alpha, uniforms_BR[..., :1].double().numpy())
        return torch.cat([torch.from_numpy(shares).to(uniforms_BR.dtype), uniforms_BR[..., 1:]], dim=-1)

    def acts_in(self, epoch: int, epochs: int) -> bool:
        """Whether images are mixed in an epoch (counted from 0) of a stage of so many."""
        return self.off_first <= epoch < epochs - self.off_last

    def forward(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Mix each image with its partner.

        Args:
            images_BCHW: uint8 or float.
            targets_B: their labels, in [0, C).
            partner_images_BCHW: as many, of the same shape.
            partner_targets_B: their labels.
            numbers_BR: what `numbers` gives.

        Returns:
            Images (B, C, H, W) with values in the same range, and soft targets (B, C) whose rows sum to one.

        Raises:
            InputError: if the shapes do not fit each other.
        """
        labels, wanted = tuple(targets_B.shape), (len(images_BCHW), self.num_uniforms)
        if partner_images_BCHW.shape != images_BCHW.shape or labels != tuple(partner_targets_B.shape):
            raise InputError(
                f"each image needs a partner of its shape: {tuple(images_BCHW.shape)} with labels {labels}, not "
                f"{tuple(partner_images_BCHW.shape)} with labels {tuple(partner_targets_B.shape)}"
            )
        if tuple(numbers_BR.shape) != wanted:
            raise InputError(f"mixing takes random numbers of shape {wanted} here, not {tuple(numbers_BR.shape)}")
        return self.mix(images_BCHW, targets_B, partner_images_BCHW, partner_targets_B, numbers_BR)

    @abstractmethod
    def mix(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What `forward` does, once the shapes are known to fit."""

    def soft_targets(self, targets_B: Tensor, partner_targets_B: Tensor, share_B: Tensor) -> Tensor:
        """Targets (B, C) with `share_B` of the weight on the label and the rest on the partner's label."""
        own_BC = F.one_hot(targets_B, len(self.counts_C)).float()
        partner_BC = F.one_hot(partner_targets_B, len(self.counts_C)).float()
        return torch.lerp(partner_BC, own_BC, share_B[:, None])


def blend(images_BCHW: Tensor, partner_images_BCHW: Tensor, share_B: Tensor) -> Tensor:
    """The weighted mean of each image, by its share, and its partner: float32.

    Example:
        >>> white, black = torch.full((1, 3, 1, 1), 200, dtype=torch.uint8), torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
        >>> blend(white, black, torch.tensor([0.75])).flatten()
        tensor([150., 150., 150.])
    """
    return torch.lerp(partner_images_BCHW.float(), images_BCHW.float(), share_B[:, None, None, None])
