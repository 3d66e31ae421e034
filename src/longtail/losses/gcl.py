"""Gaussian clouded logit adjustment (Li et al., "Long-tailed Visual Recognition via Gaussian ...", CVPR 2022).

https://arxiv.org/abs/2305.11733: each cosine loses |e| times its class's cloud size, log n_max - log n, with e from a
normal law; then a scaled softmax. Takes cosine similarities: use it on a `CosineHead`, without a scale.
From the authors' code (`Keke921/GCLLoss`): e has a standard deviation of 1/3 and is cut off at 1, the cloud sizes are
divided by the largest, and `noise` and `scale` are those it uses on CIFAR. There equal counts give NaN; here they give
clouds of size 0. Their second stage re-trains the classifier under another sampler.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, cross_entropy


def cloud_sizes(counts_C: Tensor) -> Tensor:
    """How far a class's logits are scattered: 0 for the fullest class (and absent ones), 1 for the rarest. Shape (C,).

    Example:
        >>> cloud_sizes(torch.tensor([100, 10, 1]))
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    sizes_C = torch.where(counts_C > 0, counts_C.max().double().log() - counts_C.clamp(min=1).double().log(), 0.0)
    return sizes_C / sizes_C.max().clamp(min=torch.finfo(sizes_C.dtype).tiny)


class GCLLoss(Loss):
    """Cross-entropy of scaled cosines that are lowered at random, those of rare classes by more.

    So an example of a rare class goes on pulling when its softmax would already be saturated. Draws from the default
    random generator of the logits' device, in training mode only. Soft targets weight the loss of each class, as they
    do in cross-entropy.

    Args:
        class_counts: training images per class, shape (C,).
        noise: most that is taken off a cosine of the rarest class; 0 is plain cross-entropy of the scaled cosines.
        scale: multiplies the cosines.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), `noise` is negative or `scale` not positive.

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
        self, class_counts: Countable, *, noise: float = 0.5, scale: float = 30.0, **contract: Unpack[Contract]
    ) -> None:
        super().__init__(class_counts, **contract)
        if not (noise >= 0 and scale > 0):
            raise InputError(f"noise must be >= 0 and scale positive (0.5 and 30 on CIFAR), not {noise} and {scale}")
        self.noise, self.scale = noise, scale
        self.register_buffer("sizes_C", cloud_sizes(self.counts_C).float(), persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,), from cosine similarities."""
        if self.training:
            draws_BC = (torch.randn_like(logits_BC) / 3).abs().clamp(max=1)
            logits_BC = logits_BC - self.noise * self.sizes_C * draws_BC
        return cross_entropy(self.scale * logits_BC, targets)
