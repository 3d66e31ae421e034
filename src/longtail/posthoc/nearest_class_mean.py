"""Nearest class mean classifier (Kang et al., "Decoupling Representation and Classifier", ICLR 2020).

https://arxiv.org/abs/1910.09217, section 4.1: predict the class whose mean embedding is nearest, by cosine or Euclidean
distance. Class counts do not enter, so predictions are not biased towards frequent classes. (They enter "cl2n" through
the center, the mean of all training embeddings.)

Shapes: N = examples, B = batch, D = embedding dimension, C = classes.
"""

from typing import ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from longtail.component import Component
from longtail.data.counts import Countable
from longtail.errors import InputError, first_ten, unknown_name
from longtail.models.heads import CenteredHead, CosineHead, linear_head
from longtail.posthoc.base import PostHoc

Metric = Literal["cosine", "l2", "cl2n"]
SCALE = 16.0


def class_means(features_ND: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Compute the mean embedding of each class, shape (C, D); zero for a class without an example.

    Args:
        features_ND: Embeddings, shape (N, D).
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.

    Example:
        >>> class_means(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([[2.], [5.]])
    """
    targets_N = targets_N.to(features_ND.device)
    sums_CD = features_ND.new_zeros(num_classes, features_ND.shape[1]).index_add_(0, targets_N, features_ND)
    return sums_CD / torch.bincount(targets_N, minlength=num_classes).clamp(min=1)[:, None]


class NearestClassMean(PostHoc):
    """A head with the highest logit for the class whose mean embedding is nearest.

    Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
    https://arxiv.org/abs/1910.09217. The logits are cosines times 16, or 2 mu x - |mu|^2, which orders the classes like
    the negative squared distance. They are not calibrated: do not use their softmax as probabilities.

    Args:
        metric: "cosine" (default): cosine between the embedding and the mean of the unnormalized embeddings. "l2":
            distance between unnormalized embeddings, the type "un" of the authors' code
            (`facebookresearch/classifier-balancing`). "cl2n": distance between embeddings that are centered by the mean
            of the training embeddings and then scaled to length 1, the default of that code.

    Raises:
        InputError: If `metric` is none of these.

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
        elif metric == "cl2n":
            self.component = Component("CenteredHead")

    @property
    def needs_every_class(self) -> bool:
        """True, because a class without a training image has no mean."""
        return True

    @torch.no_grad()
    def fit(
        self,
        features_ND: Tensor,
        targets_N: Tensor,
        head: nn.Linear | None = None,
        class_counts: Countable | None = None,
    ) -> Self:
        """Compute the class means.

        Args:
            features_ND: Embeddings of the training images, shape (N, D).
            targets_N: Labels in [0, C), shape (N,).
            head: Ignored; part of the interface.
            class_counts: Training images per class; only its length C is used. None (default) takes the largest label
                plus one.

        Raises:
            InputError: If a class has no example.
        """
        num_classes = int(targets_N.max()) + 1 if class_counts is None else len(class_counts)
        missing = torch.nonzero(torch.bincount(targets_N.cpu(), minlength=num_classes) == 0).flatten().tolist()
        if missing:
            raise InputError(f"{len(missing)} classes have no example, so they have no mean:\n{first_ten(missing)}")
        features_ND = features_ND.float()
        if self.metric == "cl2n":
            self.head = _centered(features_ND, targets_N, num_classes)
            return self
        means_CD = class_means(features_ND, targets_N, num_classes)
        if self.metric == "cosine":
            cosine = CosineHead(means_CD.shape[1], num_classes, scale=SCALE).to(means_CD.device)
            cosine.weight.copy_(means_CD)
            self.head = cosine
        else:
            self.head = linear_head(2 * means_CD, -means_CD.square().sum(dim=1))
        return self


def _centered(features_ND: Tensor, targets_N: Tensor, num_classes: int) -> CenteredHead:
    """Return the nearest class mean on centered embeddings of length 1. The means are not scaled to length 1."""
    head = CenteredHead(features_ND.shape[1], num_classes).to(features_ND.device)
    head.center_D.copy_(features_ND.mean(dim=0))
    means_CD = class_means(head.normalize(features_ND), targets_N, num_classes)
    head.linear.weight.copy_(2 * means_CD)
    head.linear.bias.copy_(-means_CD.square().sum(dim=1))
    return head
