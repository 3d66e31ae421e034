"""Base class of all mixings, and mixups: two images and their labels become one image with a soft label.

As in `longtail.augment.policies`, the caller draws the random numbers, an epoch at a time. Image i then depends only on
image i, its partner and row i. Shapes are static, and nothing synchronizes with the device. The authors' code draws one
share for a whole batch; here each image has its own share, which has the same expectation and a lower variance.
Shapes: B = batch, C = color channels of images, classes of targets, H x W = image size, R = numbers per image.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.component import format_options
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError
from longtail.ranges import check_number
from longtail.samplers.base import Sampler


class Mixing(nn.Module):
    """Base class of mixings of each image with a partner. Subclasses implement `mix`.

    Attributes:
        num_uniforms: Number of random numbers per image. The first one determines the share of the image.
        partner_sampler: Sampler of the partners; None to use the images of the same batch in another order.
        off_first: Epochs without mixing at the beginning of a stage.
        off_last: Epochs without mixing at the end of a stage.

    Args:
        class_counts: Training images per class, shape (C,); a tensor, a list or `ClassCounts`.
        alpha: Parameter of the distribution Beta(alpha, alpha) of the share of the image. 1 (default) is uniform;
            smaller values concentrate near 0 and 1.

    Raises:
        InputError: If `alpha` is not positive and finite.
    """

    num_uniforms: ClassVar[int]
    partner_sampler: type[Sampler] | None = None
    off_first: int = 0
    off_last: int = 0
    counts_C: Tensor

    def __init__(self, class_counts: Countable, *, alpha: float = 1.0) -> None:
        super().__init__()
        check_number("alpha", alpha, "1: uniform shares", above=0)
        self.alpha = alpha
        self.register_buffer("counts_C", ClassCounts(class_counts).counts.float(), persistent=False)

    def numbers(self, uniforms_BR: Tensor) -> Tensor:
        """Convert uniform random numbers to the argument of `forward`.

        The first column becomes a draw from Beta(alpha, alpha). Runs on the CPU, outside the training step.

        Args:
            uniforms_BR: Numbers in [0, 1), shape (..., `num_uniforms`).

        Example:
            >>> Mixup([9, 1], alpha=0.5).numbers(torch.tensor([[0.25], [0.5]]))  # sin(pi u / 2) ** 2
            tensor([[0.1464],
                    [0.5000]])
        """
        if self.alpha == 1:
            return uniforms_BR
        from scipy.special import betaincinv  # slow to import, and rarely needed

        shares = betaincinv(self.alpha, self.alpha, uniforms_BR[..., :1].double().numpy())
        return torch.cat([torch.from_numpy(shares).to(uniforms_BR.dtype), uniforms_BR[..., 1:]], dim=-1)

    def acts_in(self, epoch: int, epochs: int) -> bool:
        """Return whether images are mixed in an epoch.

        Args:
            epoch: Number of the epoch in its stage, from 0.
            epochs: Number of epochs of the stage.
        """
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
            images_BCHW: Images, uint8 or float.
            targets_B: Labels of the images, in [0, C).
            partner_images_BCHW: Partners, of the same shape.
            partner_targets_B: Labels of the partners.
            numbers_BR: Result of `numbers`.

        Returns:
            Images (B, C, H, W) with values in the same range, and soft targets (B, C) whose rows sum to 1.

        Raises:
            InputError: If the shapes do not match.
        """
        labels, wanted = tuple(targets_B.shape), (len(images_BCHW), self.num_uniforms)
        if partner_images_BCHW.shape != images_BCHW.shape or labels != tuple(partner_targets_B.shape):
            raise InputError(
                f"partners must have the shape of the images, {tuple(images_BCHW.shape)} with labels {labels}, got "
                f"{tuple(partner_images_BCHW.shape)} with labels {tuple(partner_targets_B.shape)}"
            )
        if tuple(numbers_BR.shape) != wanted:
            raise InputError(f"`numbers_BR` must have shape {wanted}, got {tuple(numbers_BR.shape)}")
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
        """Mix images and labels of matching shapes, see `forward`."""

    def soft_targets(self, targets_B: Tensor, partner_targets_B: Tensor, share_B: Tensor) -> Tensor:
        """Return targets (B, C) with weight `share_B` on the label and the rest on the label of the partner."""
        own_BC = F.one_hot(targets_B, len(self.counts_C)).float()
        partner_BC = F.one_hot(partner_targets_B, len(self.counts_C)).float()
        return torch.lerp(partner_BC, own_BC, share_B[:, None])

    def extra_repr(self) -> str:
        """Format the number of classes and the options for `repr`."""
        return f"num_classes={len(self.counts_C)}, alpha={self.alpha}" + "".join(
            f", {shown}" for shown in [format_options(self, Mixing, omit="alpha")] if shown
        )


def blend(images_BCHW: Tensor, partner_images_BCHW: Tensor, share_B: Tensor) -> Tensor:
    """Return the mean of each image, weighted by its share, and its partner: float32.

    Example:
        >>> white, black = torch.full((1, 3, 1, 1), 200, dtype=torch.uint8), torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
        >>> blend(white, black, torch.tensor([0.75])).flatten()
        tensor([150., 150., 150.])
    """
    return torch.lerp(partner_images_BCHW.float(), images_BCHW.float(), share_B[:, None, None, None])


class Mixup(Mixing):
    """Mixup: weighted mean of each image and label with those of another image of the batch.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412, Sec. 2:
    x = lambda x_i + (1 - lambda) x_j and y = lambda y_i + (1 - lambda) y_j with lambda from Beta(alpha, alpha). Pixels
    are mixed before normalization, which gives the same result.

    Args:
        class_counts: Training images per class, shape (C,); only the number of classes is used.
        alpha: Parameter of the Beta distribution of the share. The paper uses 1 (default) for CIFAR and 0.2 to 0.4 for
            ImageNet.

    Raises:
        InputError: If `alpha` is not positive and finite.

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
        """Return float32 images and soft targets. The number is the share of the image."""
        share_B = numbers_BR[:, 0]
        return (
            blend(images_BCHW, partner_images_BCHW, share_B),
            self.soft_targets(targets_B, partner_targets_B, share_B),
        )


class Remix(Mixing):
    """Remix: mixup that assigns the label to the rarer class where possible.

    Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020, https://arxiv.org/abs/2007.03943, Eqs. 8 to 10. Images
    are mixed as in mixup. The label goes to the rarer class alone if the other class has at least kappa times as many
    images and the share of the rarer class in the image is above 1 - tau.

    Args:
        class_counts: Training images per class, shape (C,).
        alpha: Parameter of the Beta distribution of the share of the image. Default: 1.
        kappa: Ratio of the counts from which one class is a majority relative to the other, above 1. Default: 3.
        tau: Share of a majority class in the image below which it gets no label, in [0, 1]. Default: 0.5; 0 is mixup.

    Raises:
        InputError: If an option is out of range.

    Example:
        >>> images, labels = torch.zeros(2, 3, 1, 1), torch.tensor([0, 1])
        >>> share = torch.tensor([[0.4], [0.4]])  # 0.4 of the image itself, 0.6 of its partner
        >>> Remix([90, 10])(images, labels, images, labels.flip(0), share)[1]  # the first gets the rare label
        tensor([[0.0000, 1.0000], [0.6000, 0.4000]])
    """

    num_uniforms: ClassVar[int] = 1

    def __init__(self, class_counts: Countable, *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5) -> None:
        super().__init__(class_counts, alpha=alpha)
        check_number("kappa", kappa, "3 in the paper", above=1)
        check_number("tau", tau, "0.5 in the paper", at_least=0, at_most=1)
        self.kappa, self.tau = kappa, tau

    def mix(
        self,
        images_BCHW: Tensor,
        targets_B: Tensor,
        partner_images_BCHW: Tensor,
        partner_targets_B: Tensor,
        numbers_BR: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return float32 images and soft targets. The number is the share of the image."""
        share_B = numbers_BR[:, 0]
        own_B, partner_B = self.counts_C[targets_B], self.counts_C[partner_targets_B]
        to_partner_B = (own_B >= self.kappa * partner_B) & (share_B < self.tau)
        to_own_B = (partner_B >= self.kappa * own_B) & (1 - share_B < self.tau)
        label_share_B = torch.where(to_own_B, 1.0, torch.where(to_partner_B, 0.0, share_B))
        return (
            blend(images_BCHW, partner_images_BCHW, share_B),
            self.soft_targets(targets_B, partner_targets_B, label_share_B),
        )
