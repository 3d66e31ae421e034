"""Implicit semantic data augmentation, ISDA (Wang et al., NeurIPS 2019, https://arxiv.org/abs/1909.12220).

Each embedding is augmented by infinitely many copies with the covariance of its class. An upper bound of the expected
cross-entropy is the cross-entropy of logits raised by lambda / 2 (w_j - w_y)' Cov_y (w_j - w_y) (Proposition 1).

As in the authors' code (`blackfeather-wang/ISDA-for-Deep-Networks`), lambda grows with the completed share of the
training, the covariance is a constant for the gradient, and the weights w are not. Their code has a separate program
with variances only for large embeddings; here, the memory budget decides.
Shapes: B = batch, C = classes, D = embedding dimension, G = groups of images of one class; DD = D x D, or D.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.ranges import check_number
from longtail.transfer.base import Transfer
from longtail.transfer.forms import LARGEST_BATCH
from longtail.transfer.statistics import RunningClassStatistics


class ISDA(Transfer):
    """Implicit semantic data augmentation: higher logits for the classes toward which the true class varies.

    Requires a linear head and a single stream of images. It changes logits and not feature maps.

    Args:
        class_counts: Training images per class, shape (C,).
        channels: Embedding dimension, D.
        strength: Value of lambda at the end of the training. Default: 0.5, as in the authors' code. In a training loop
            without `set_progress`, lambda has this value throughout.
        memory_budget_gb: Memory limit in 1e9 bytes for the covariances and a step with them. Default: 2. Beyond it,
            only the variances are kept.

    Raises:
        InputError: If `strength` is negative or `memory_budget_gb` is not positive.

    Example:
        >>> isda, head = ISDA([2, 2], 1, strength=1.0), nn.Linear(1, 2)
        >>> embeddings, targets = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 0])  # variance 1
        >>> _ = nn.init.constant_(head.weight[1], 2.0), nn.init.constant_(head.weight[0], 0.0)
        >>> isda.adjust(torch.zeros(2, 2), embeddings, targets, head)
        tensor([[0., 2.],
                [0., 2.]], grad_fn=<AddBackward0>)
    """

    uses_maps: ClassVar[bool] = False
    half_lambda: Tensor

    def __init__(
        self, class_counts: Countable, channels: int, *, strength: float = 0.5, memory_budget_gb: float = 2.0
    ) -> None:
        super().__init__(class_counts, channels)
        check_number("strength", strength, "default: 0.5", at_least=0)
        check_number("memory_budget_gb", memory_budget_gb, "default: 2.0", above=0)
        self.strength, self.memory_budget_gb = strength, memory_budget_gb
        # lambda / 2; a tensor, so that a recorded step reads its present value
        self.register_buffer("half_lambda", torch.tensor(0.5 * strength), persistent=False)
        diagonal = _dense_bytes(self.num_classes, channels) > memory_budget_gb * 1e9
        self.running = RunningClassStatistics(self.num_classes, channels, diagonal=diagonal)

    def set_progress(self, progress: float) -> None:
        """Scale lambda with the completed share of the training."""
        self.half_lambda.fill_(0.5 * self.strength * progress)

    def adjust(self, logits_BC: Tensor, embeddings_BD: Tensor, targets_B: Tensor, head: nn.Module) -> Tensor:
        """Return the logits (B, C) of the upper bound, float32, in training mode.

        Raises:
            InputError: If the head is not a linear layer, or the embeddings do not have dimension `channels`.
        """
        if not self.training:
            return logits_BC
        if not isinstance(head, nn.Linear) or head.in_features != self.channels:
            raise InputError(
                f"ISDA needs a LinearHead on embeddings of dimension {self.channels}, got {type(head).__name__} on "
                f"embeddings of shape {tuple(embeddings_BD.shape)}"
            )
        self.check_shapes(embeddings_BD, targets_B, torch.zeros_like(targets_B, dtype=torch.bool))
        with torch.autocast(logits_BC.device.type, enabled=False):
            weight_CD = head.weight.to(self.running.means_KC.dtype)
            moments = self.running.update(embeddings_BD.detach().to(weight_CD.dtype)[:, None], targets_B)
            classes_G, covariances_GDD = moments.groups.classes_G, moments.covariances_GCC
            spread_GC = spread(weight_CD, weight_CD[classes_G], covariances_GDD)
            return logits_BC + self.half_lambda * spread_GC[moments.groups.group_E]


def spread(weight_CD: Tensor, own_GD: Tensor, covariances_GDD: Tensor) -> Tensor:
    """Compute the variance of each logit relative to the true one, (w_j - w_y)' Cov_y (w_j - w_y), shape (G, C).

    Args:
        weight_CD: Weights w_j of the head.
        own_GD: Weights w_y of the class of each group.
        covariances_GDD: Covariance Cov_y of each group, (G, D, D), or its diagonal, (G, D).

    Example:
        >>> spread(torch.eye(2), torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 1.0], [1.0, 3.0]]]))
        tensor([[0., 3.]])
    """
    center_D = weight_CD.mean(dim=0)  # the differences do not change, but a common offset would cancel in float32
    weight_CD, own_GD = weight_CD - center_D, own_GD - center_D
    if covariances_GDD.ndim == 2:
        shared_GD = own_GD * covariances_GDD
        squares_GC, products_GC = covariances_GDD @ weight_CD.T.square(), shared_GD @ weight_CD.T
        return squares_GC - 2 * products_GC + (shared_GD * own_GD).sum(dim=1, keepdim=True)
    # w_j' Cov for all pairs at once; the differences are taken after the product to save memory
    carried_GCD = weight_CD @ covariances_GDD
    own_G1D = own_GD[:, None] @ covariances_GDD
    squares_GC = (carried_GCD * weight_CD).sum(dim=2)
    products_GC = (own_G1D @ weight_CD.T).squeeze(1)
    return squares_GC - 2 * products_GC + (own_G1D.squeeze(1) * own_GD).sum(dim=1, keepdim=True)


def _dense_bytes(num_classes: int, dimension: int) -> int:
    """Estimate the memory of full covariances and of a step of 256 images with them, in bytes."""
    groups = min(num_classes, LARGEST_BATCH)
    matrices = num_classes + 2 * LARGEST_BATCH + 6 * groups
    return 4 * dimension * (matrices * dimension + 3 * groups * num_classes)
