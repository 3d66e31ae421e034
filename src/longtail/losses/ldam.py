"""Label-distribution-aware margin loss (Cao et al., "Learning Imbalanced Datasets with LDAM", NeurIPS 2019).

https://arxiv.org/abs/1906.07413, Eqs. 12 and 13. Deferred re-weighting (DRW) is
`reweight_beta=0.9999, reweight_from=0.8`: the last 40 of 200 epochs, as in the authors' code.

The scale of 30 is in the authors' code (`kaidic/LDAM-DRW`), not in the paper. Their code divides a batch by the sum of
its weights, which is `normalize="batch"`. Here, the weights have mean 1 over the training images by default (see
`mean_one_over_images`): on CIFAR-100-LT (IF 100), class-balanced batches then have a gradient about five times as
large.
Shapes: B = batch, C = classes.
"""

from typing import ClassVar

import torch
from torch import Tensor

from longtail.data.counts import Countable
from longtail.losses.base import Absent, Reduction, rival_cross_entropy
from longtail.losses.class_balanced import effective_number_weights
from longtail.losses.weighted import Normalize, WeightedLoss, mean_one_over_images
from longtail.ranges import check_number


def ldam_margins(counts_C: Tensor, max_margin: float) -> Tensor:
    """Return class margins proportional to n ** (-1/4): `max_margin` for the rarest, 0 for absent ones. Shape (C,).

    Example:
        >>> ldam_margins(torch.tensor([16.0, 1.0]), max_margin=0.5)
        tensor([0.2500, 0.5000])
    """
    margins_C = torch.where(counts_C > 0, counts_C.clamp(min=1) ** -0.25, 0.0)
    return margins_C * (max_margin / margins_C.max())


class LDAMLoss(WeightedLoss):
    """Cross-entropy of scaled cosines with a margin that is larger for rarer classes.

    Requires cosine similarities: use a `CosineHead(scale=1)`. With soft targets, the loss is the expectation over the
    classes.

    Args:
        class_counts: Training images per class, shape (C,).
        max_margin: Margin of the rarest class, in units of cosine similarity. Default: 0.5. The authors recommend 0.3
            for iNaturalist.
        scale: Factor of the cosines after the margin is subtracted. Default: 30.
        reweight_beta: Overlap of the effective-number class weights in [0, 1), as in the second phase of DRW (0.9999 in
            the authors' code). Default (None): no weights.
        reweight_from: Share of the training, in [0, 1], after which the class weights apply. Call `set_progress` before
            each epoch; without it, the weights apply from the start.
        normalize: Normalization of the class weights: "data" (default) has mean 1 over the training images, "batch"
            over each batch, as in the authors' code; see `WeightedLoss`.
        reduction: Reduction over the batch, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Raises:
        InputError: If a class has no training image (see `absent`), or an option is out of range.

    Example:
        >>> import torch
        >>> LDAMLoss([5000, 50], max_margin=0.5)(torch.tensor([[0.2, 0.9]]), torch.tensor([1]))
        tensor(0.0025)
    """

    expects_cosines: ClassVar[bool] = True
    convex = True
    margins_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        reweight_beta: float | None = None,
        reweight_from: float = 0.0,
        normalize: Normalize = "data",
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(
            class_counts, normalize=normalize, reduction=reduction, ignore_index=ignore_index, absent=absent
        )
        check_number("max_margin", max_margin, "0.5 on CIFAR", at_least=0)
        check_number("scale", scale, "default: 30", above=0)
        check_number("reweight_beta", reweight_beta, "0.9999 in the code", optional=True, at_least=0, below=1)
        check_number("reweight_from", reweight_from, "a share of the training", at_least=0, at_most=1)
        self.max_margin, self.scale = max_margin, scale
        self.reweight_beta, self.reweight_from, self.reweights = reweight_beta, reweight_from, True
        weights_C = effective_number_weights(self.counts_C, reweight_beta or 0.0)
        self.register_buffer("margins_C", ldam_margins(self.counts_C, max_margin), persistent=False)
        self.register_buffer("weights_C", mean_one_over_images(weights_C, self.counts_C), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Apply the class weights once the share `reweight_from` of the training is completed."""
        self.reweights = progress >= self.reweight_from - 1e-9  # tolerance: most shares are not exact in binary

    @property
    def weighs(self) -> bool:
        """Whether the class weights apply at this point of the training."""
        return self.reweights

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each example, shape (B,), from cosine similarities."""
        own_BC = self.scale * (logits_BC - self.margins_C)
        rival_BC = self.scale * logits_BC
        if not self.reweights:
            return rival_cross_entropy(own_BC, rival_BC, targets)
        if targets.ndim == 2:
            return rival_cross_entropy(own_BC, rival_BC, self.weights_C * targets)
        return self.weights_C[targets] * rival_cross_entropy(own_BC, rival_BC, targets)
