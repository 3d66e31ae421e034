"""Label-distribution-aware margin loss (Cao et al., "Learning Imbalanced Datasets with LDAM", NeurIPS 2019).

https://arxiv.org/abs/1906.07413, Eqs. 12 and 13. Takes cosine similarities: use it on a `CosineHead(scale=1)`.
Deferred re-weighting (DRW) is `reweight_beta=0.9999, reweight_from=0.8`: the last 40 of 200 epochs, as in their code.
The scale of 30 is in the authors' code (`kaidic/LDAM-DRW`), not in the paper. Their code divides a batch by the sum of
its weights; ours have mean 1 over the training images instead (see `mean_one_over_images`).
Shapes: B = batch, C = classes.
"""

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.errors import InputError
from longtail.losses.base import Contract, Loss, rival_cross_entropy
from longtail.losses.class_balanced import effective_number_weights
from longtail.losses.weighted import mean_one_over_images


def ldam_margins(counts_C: Tensor, max_margin: float) -> Tensor:
    """Margin of each class, proportional to n ** (-1/4): the rarest class gets `max_margin`, absent ones 0. Shape (C,).

    Example:
        >>> ldam_margins(torch.tensor([16.0, 1.0]), max_margin=0.5)
        tensor([0.2500, 0.5000])
    """
    margins_C = torch.where(counts_C > 0, counts_C.clamp(min=1) ** -0.25, 0.0)
    return margins_C * (max_margin / margins_C.max())


class LDAMLoss(Loss):
    """Cross-entropy of scaled cosines that asks of each class a margin, the wider the rarer it is.

    Soft targets give the expectation of the loss over the classes.

    Args:
        class_counts: training images per class, shape (C,).
        max_margin: margin of the rarest class, in units of cosine similarity. The authors advise 0.3 for iNaturalist.
        scale: multiplies the cosines once the margin is taken off.
        reweight_beta: also weight the classes by the inverse of their effective number of images, as the second part
            of DRW does (0.9999 in the authors' code); None does not.
        reweight_from: share of the training that passes before that begins; whoever trains tells the loss by
            `set_progress`, without which it weights from the start.
        contract: `reduction`, `ignore_index` and `absent`, see `Loss`.

    Raises:
        InputError: if a class has no training image (see `absent`), or an option is out of its range.

    Example:
        >>> import torch
        >>> LDAMLoss([5000, 50], max_margin=0.5)(torch.tensor([[0.2, 0.9]]), torch.tensor([1]))
        tensor(0.0025)
    """

    balances: ClassVar[bool] = True
    expects_cosines: ClassVar[bool] = True
    margins_C: Tensor
    weights_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        reweight_beta: float | None = None,
        reweight_from: float = 0.0,
        **contract: Unpack[Contract],
    ) -> None:
        super().__init__(class_counts, **contract)
        if not (max_margin >= 0 and scale > 0):
            raise InputError(f"max_margin must be >= 0 and scale positive, not {max_margin} and {scale}")
        if not 0 <= reweight_from <= 1:
            raise InputError(f"reweight_from is a share of the training, from 0 to 1, not {reweight_from}")
        self.scale, self.reweight_from, self.reweights = scale, reweight_from, True
        weights_C = effective_number_weights(self.counts_C, reweight_beta or 0.0)
        self.register_buffer("margins_C", ldam_margins(self.counts_C, max_margin), persistent=False)
        self.register_buffer("weights_C", mean_one_over_images(weights_C, self.counts_C), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Begin to weight the classes once the share `reweight_from` of the training lies behind."""
        self.reweights = progress >= self.reweight_from - 1e-9  # of shares that are no exact binary number

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Loss of each example, shape (B,), from cosine similarities."""
        own_BC = self.scale * (logits_BC - self.margins_C)
        rival_BC = self.scale * logits_BC
        if not self.reweights:
            return rival_cross_entropy(own_BC, rival_BC, targets)
        if targets.ndim == 2:
            return rival_cross_entropy(own_BC, rival_BC, self.weights_C * targets)
        return self.weights_C[targets] * rival_cross_entropy(own_BC, rival_BC, targets)
