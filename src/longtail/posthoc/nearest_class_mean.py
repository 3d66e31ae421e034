"""Nearest class mean (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, section 4.1: the mean embedding of each class, and the class whose mean is nearest, by
cosine or Euclidean distance. The counts have no say, so nothing is biased towards full classes.
Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from longtail.component import Component
from longtail.data.counts import Countable
from longtail.errors import InputError, first_ten, unknown_name
from longtail.models.heads import CosineHead, linear_head
from longtail.posthoc.base import PostHoc

Metric = Literal["cosine", "l2"]
SCALE = 16.0


def class_means(features_ND: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Mean embedding of each class, shape (C, D); zero for a class without an example.

    Example:
        >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([[2.], [5.]])
    """
    targets_N = targets_N.to(features_ND.device)
    sums_CD = features_ND.new_zeros(num_classes, features_ND.shape[1]).index_add_(0, targets_N, features_ND)
    return sums_CD / torch.bincount(targets_N, minlength=num_classes).clamp(min=1)[:, None]


class NearestClassMean(PostHoc):
    """A head whose logits are largest for the class with the nearest mean embedding.

    The logits are scaled cosines, or 2 mu x - |mu|^2, which orders the classes as minus the squared distance does.
    They are made to be compared: as probabilities they are not calibrated.

    Args:
        metric: "cosine" or "l2"; the paper tries both.

    Raises:
        InputError: for another metric.

    Example:
        >>> features, targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 1.0]]), torch.tensor([0, 1, 1])
        >>> NearestClassMean(metric="l2").fit(features, targets).predict_logits(features).argmax(dim=1)
        tensor([0, 1, 1])
    """

    fits_on: ClassVar[Literal["train", "val"]] = "train"

    def __init__(self, *, metric: Metric = "cosine") -> None:
        if metric not in get_args(Metric):
            raise unknown_name("metric of the nearest class mean", metric, get_args(Metric))
        self.metric = metric
        if metric == "cosine":
            self.component = Component("CosineHead", {"scale": SCALE})

    @property
    def needs_holdout(self) -> bool:
        """Nothing is chosen."""
        return False

    @torch.no_grad()
    def fit(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        head: nn.Linear | None = None,
        class_counts: Countable | None = None,
    ) -> Self:
        """Take the means.

        Args:
            features_ND: embeddings of the training images, shape (N, D).
            targets_N: their labels, shape (N,).
            head: not looked at.
            class_counts: tells the number of classes; None takes the largest label for the last class.

        Raises:
            InputError: if a class has no example, and so no mean.
        """
        num_classes = int(targets_N.max()) + 1 if class_counts is None else len(class_counts)
        missing = torch.nonzero(torch.bincount(targets_N.cpu(), minlength=num_classes) == 0).flatten().tolist()
        if missing:
            raise InputError(f"{len(missing)} classes have no example, so they have no mean:\n{first_ten(missing)}")
        means_CD = class_means(features_ND.float(), targets_N, num_classes)
        if self.metric == "cosine":
            cosine = CosineHead(means_CD.shape[1], num_classes, scale=SCALE).to(means_CD.device)
            cosine.weight.copy_(means_CD)
            self.head = cosine
        else:
            self.head = linear_head(2 * means_CD, -means_CD.square().sum(dim=1))
        return self
