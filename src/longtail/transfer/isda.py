"""Implicit semantic data augmentation, ISDA (Wang et al., NeurIPS 2019, https://arxiv.org/abs/1909.12220).

Embeddings of a class vary along the directions of their class's covariance, in infinitely many copies: an upper bound
of the expected cross-entropy is that of logits raised by lambda / 2 (w_j - w_y)' Cov_y (w_j - w_y) (Proposition 1),
which is one product. As in the authors' code (`blackfeather-wang/ISDA-for-Deep-Networks`), lambda grows with the share
of the training that lies behind, the covariance is a constant for the gradient, and the weights w are not. There a
large embedding asks for another program with variances only; here that is chosen by the memory it takes.
Shapes: B = batch, C = classes, D = embedding dimension, G = groups of images of one class; DD = D x D, or D.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.transfer.base import Transfer
from longtail.transfer.forms import LARGEST_BATCH
from longtail.transfer.statistics import RunningClassStatistics


class ISDA(Transfer):
    """Raises the logits of the classes into whose direction the true class varies.

    For linear heads. It changes no maps, and takes its images from one stream.

    Args:
        class_counts: training images per class, shape (C,).
        channels: D, of the embeddings.
        strength: lambda at the end of the training (0.5 in the authors' code); in a loop that never calls
            `set_progress`, throughout.
        memory_budget_gb: covariances that would take more than this many GB, with what a step needs beside them, are
            replaced by their diagonals.

    Raises:
        InputError: if `strength` is negative or `memory_budget_gb` not positive.

    Example:
        >>> isda, head = ISDA([2, 2], 1, strength=1.0), nn.Linear(1, 2)
        >>> embeddings, targets = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 0])  # of variance 1
        >>> _ = nn.init.constant_(head.weight[1], 2.0), nn.init.constant_(head.weight[0], 0.0)
        >>> isda.adjust(torch.zeros(2, 2), embeddings, targets, head)
        tensor([[0., 2.],
                [0., 2.]], grad_fn=<AddBackward0>)
    """

    uses_maps: ClassVar[bool] = False

    def __init__(
        self, class_counts: Countable, channels: int, *, strength: float = 0.5, memory_budget_gb: float = 2.0
    ) -> None:
        super().__init__(class_counts, channels)
        if not (strength >= 0 and memory_budget_gb > 0):
            raise InputError(
                "strength must be >= 0 and memory_budget_gb positive (0.5 and 2.0 by default), "
                f"not {strength} and {memory_budget_gb}"
            )
        self.strength, self.ramp = strength, 1.0
        diagonal = _dense_bytes(self.num_classes, channels) > memory_budget_gb * 1e9
        self.running = RunningClassStatistics(self.num_classes, channels, diagonal=diagonal)

    def set_progress(self, progress: float) -> None:
        """Let lambda grow with the share of the training that lies behind."""
        self.ramp = progress

    def adjust(self, logits_BC: Tensor, embeddings_BD: Tensor, targets_B: Tensor, head: nn.Module) -> Tensor:
        """Logits (B, C) of the bound, float32, in training mode.

        Raises:
            InputError: if the head is not a linear layer, or the embeddings have another dimension than the transfer.
        """
        if not self.training:
            return logits_BC
        if not isinstance(head, nn.Linear) or head.in_features != self.channels:
            raise InputError(
                f"ISDA was built for embeddings of dimension {self.channels} under a LinearHead, and can not work with "
                f"{type(head).__name__} on embeddings of shape {tuple(embeddings_BD.shape)}"
            )
        self.check_shapes(embeddings_BD, targets_B, torch.zeros_like(targets_B, dtype=torch.bool))
        with torch.autocast(logits_BC.device.type, enabled=False):
            weight_CD = head.weight.to(self.running.means_KC.dtype)
            moments = self.running.update(embeddings_BD.detach().to(weight_CD.dtype)[:, None], targets_B)
            classes_G, covariances_GDD = moments.groups.classes_G, moments.covariances_GCC
            spread_GC = spread(weight_CD, weight_CD[classes_G], covariances_GDD)
            return logits_BC + 0.5 * self.strength * self.ramp * spread_GC[moments.groups.group_E]


def spread(weight_CD: Tensor, own_GD: Tensor, covariances_GDD: Tensor) -> Tensor:
    """The variance of each logit beside the own one: (w_j - w_y)' Cov_y (w_j - w_y), shape (G, C).

    Args:
        weight_CD: w_j.
        own_GD: w_y of each group.
        covariances_GDD: Cov_y of each group, (G, D, D), or the variances on its diagonal, (G, D).

    Example:
        >>> spread(torch.eye(2), torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 1.0], [1.0, 3.0]]]))
        tensor([[0., 3.]])
    """
    if covariances_GDD.ndim == 2:
        shared_GD = own_GD * covariances_GDD
        squares_GC, products_GC = covariances_GDD @ weight_CD.T.square(), shared_GD @ weight_CD.T
        return squares_GC - 2 * products_GC + (shared_GD * own_GD).sum(dim=1, keepdim=True)
    # w_j' Cov is needed for all pairs at once; of the differences, only after the product with it
    carried_GCD = weight_CD @ covariances_GDD
    own_G1D = own_GD[:, None] @ covariances_GDD
    squares_GC = (carried_GCD * weight_CD).sum(dim=2)
    products_GC = (own_G1D @ weight_CD.T).squeeze(1)
    return squares_GC - 2 * products_GC + (own_G1D.squeeze(1) * own_GD).sum(dim=1, keepdim=True)


def _dense_bytes(num_classes: int, dimension: int) -> int:
    """Memory of full covariances, and of a step of 256 images with them, in bytes, about."""
    groups = min(num_classes, LARGEST_BATCH)
    matrices = num_classes + 2 * LARGEST_BATCH + 6 * groups
    return 4 * dimension * (matrices * dimension + 3 * groups * num_classes)
