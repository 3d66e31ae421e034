"""Gaussian clouded logit adjustment (Li et al., "Long-tailed Visual Recognition via Gaussian ...", CVPR 2022).

https://arxiv.org/abs/2305.11733. Each cosine is reduced by |e| times the cloud size of its class, log n_max - log n,
where e is normally distributed. A scaled softmax follows.

From the authors' code (`Keke921/GCLLoss`): e has a standard deviation of 1/3 and is clipped at 1, the cloud sizes are
divided by the largest one, and the defaults of `noise` and `scale` are those for CIFAR. With equal counts their code
gives NaN; here the clouds then have size 0. Their second stage trains the classifier on class-balanced sampling with a
margin of 0.1, a scale of 20 and a focal factor (recipe `gcl`). With mixup, their code draws e for each of the two
labels of an image; here both share one draw.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Loss, Reduction, cross_entropy, logsumexp_of_others, pick, rival_cross_entropy
from longtail.ranges import check_number


def cloud_sizes(counts_C: Tensor) -> Tensor:
    """Return the relative noise of each class, shape (C,): 0 for the most frequent or absent classes, 1 for the rarest.

    Example:
        >>> cloud_sizes(torch.tensor([100, 10, 1]))
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    sizes_C = torch.where(counts_C > 0, counts_C.max().double().log() - counts_C.clamp(min=1).double().log(), 0.0)
    return sizes_C / sizes_C.max().clamp(min=torch.finfo(sizes_C.dtype).tiny)


class GCLLoss(Loss):
    """Cross-entropy of scaled cosines with random reductions that are larger for rare classes.

    The noise keeps the gradient of rare classes large where the softmax would otherwise saturate. Requires cosine
    similarities: use a `CosineHead(scale=1)`. Draws from the default random generator of the device of the logits, in
    training mode only. With soft targets, the loss of each class is weighted as in cross-entropy.

    Args:
        class_counts: Training images per class, shape (C,).
        noise: Largest reduction of a cosine of the rarest class. Default: 0.5; 0 is plain cross-entropy of the scaled
            cosines.
        scale: Factor of the cosines. Default: 30.
        margin: Reduction of the cosine of the true class, >= 0, also in eval mode. Default: 0; the authors use 0.1 in
            the second stage.
        gamma: Exponent, >= 0, of the focal factor 1 - p of the true class, which has no gradient. Default: 0; the
            authors use 1 in the second stage.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), `noise`, `margin` or `gamma` is negative, or
            `scale` is not positive.

    Example:
        >>> import torch
        >>> loss = GCLLoss([100, 1], scale=1.0)
        >>> loss(torch.zeros(1, 2), torch.tensor([1])) > loss.eval()(torch.zeros(1, 2), torch.tensor([1]))
        tensor(True)
    """

    balances: ClassVar[bool] = True
    expects_cosines: ClassVar[bool] = True
    sizes_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        noise: float = 0.5,
        scale: float = 30.0,
        margin: float = 0.0,
        gamma: float = 0.0,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("noise", noise, "0.5 on CIFAR", at_least=0)
        check_number("scale", scale, "30 on CIFAR", above=0)
        check_number("margin", margin, "0.1 in the second stage", at_least=0)
        check_number("gamma", gamma, "1 in the second stage", at_least=0)
        self.noise, self.scale, self.margin, self.gamma = noise, scale, margin, gamma
        self.register_buffer("sizes_C", cloud_sizes(self.counts_C).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,), from cosine similarities."""
        if self.training:
            draws_BC = (torch.randn_like(logits_BC) / 3).abs().clamp(max=1)
            logits_BC = logits_BC - self.noise * self.sizes_C * draws_BC
        if self.margin == 0 and self.gamma == 0:
            return cross_entropy(self.scale * logits_BC, targets)
        own_BC, rival_BC = self.scale * (logits_BC - self.margin), self.scale * logits_BC
        if targets.ndim == 1:
            return self._focal(rival_cross_entropy(own_BC, rival_BC, targets))
        return pick(self._focal(-F.logsigmoid(own_BC - logsumexp_of_others(rival_BC))), targets)

    def _focal(self, losses: Tensor) -> Tensor:
        return losses * (-torch.expm1(-losses.detach())) ** self.gamma
