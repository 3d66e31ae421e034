"""Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018).

https://arxiv.org/abs/1710.09412, Sec. 2: x = lambda x_i + (1 - lambda) x_j and y = lambda y_i + (1 - lambda) y_j with
lambda from Beta(alpha, alpha). Pixels are mixed before they are centred, which comes to the same.
"""

from typing import ClassVar

from torch import Tensor

from longtail.augment.mixing.base import Mixing, blend


class Mixup(Mixing):
    """Fade each image and its label into another of the batch.

    Args:
        class_counts: training images per class, shape (C,); only their number is used.
        alpha: of the Beta distribution of the share; the paper takes 1 for CIFAR and 0.2 to 0.4 for ImageNet.

    Raises:
        InputError: if `alpha` is not positive.

    Example:
        >>> import torch
        >>> images, labels = torch.tensor([[[[0.0]]], [[[100.0]]]]), torch.tensor([0, 1])
        >>> mixed, soft = Mixup([9, 1])(images, labels, images.flip(0), labels.flip(0), torch.tensor([[0.75], [0.5]]))
        >>> mixed.flatten(), soft
        (tensor([25., 50.]), tensor([[0.7500, 0.2500], [0.5000, 0.5000]]))
    """

    num_uniforms: ClassVar[int] = 1

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
        return (
            blend(images_BCHW, partner_images_BCHW, share_B),
            self.soft_targets(targets_B, partner_targets_B, share_B),
        )
