"""Box classifiers: one adapter from the losses of the library to the proposals of a detector.

A detector labels each proposal with a class 1 .. C, or with 0 for background. There are two kinds of outputs:

- "softmax": C + 1 logits, the first one of background. The loss has C + 1 classes.
- "sigmoid": C logits, one binary decision per class. Background is a row without a class. The bias starts at
  -log((1 - p) / p) with p = 0.001, so that the many negative decisions do not dominate the first steps.

Balanced Softmax of a detector in the source paper (Ren et al., NeurIPS 2020, supplement B.2, and
`cunjunyu/BalancedMetaSoftmax-InstanceSeg`) is the sigmoid form, here `balanced-sigmoid`: log weight_j =
log((1 - f_j) / f_j) with f_j = images with class j / images, subtracted on foreground rows only. Neither the paper nor
the code has a softmax form. Here, `balanced-softmax` counts background as a class of mean frequency: if the share of
background among the proposals is the same in training and test, and all classes are equally frequent in the test,
Bayes' rule shifts class j by log(n_j / mean n) and background by 0.
Shapes: B = proposals, C = classes without background, K = outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longtail.component import Component, keyword_options
from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, unknown_name
from longtail.losses import BalancedSigmoid, BalancedSoftmax, CrossEntropy, FocalLoss, SeesawLoss
from longtail.losses.base import Absent, Loss, Reduction
from longtail.ranges import check_number

Activation = Literal["softmax", "sigmoid"]

PRIOR_PROBABILITY = 0.001
"""Probability of each class that the initial bias of a sigmoid classifier corresponds to."""


@dataclass(frozen=True)
class LabelCounts:
    """Frequencies of the classes in the training data of a detector.

    Args:
        images_C: Images that contain each class.
        instances_C: Instances of each class.
        num_images: Number of training images.
    """

    images_C: Tensor
    instances_C: Tensor
    num_images: int

    def __post_init__(self) -> None:
        if self.images_C.shape != self.instances_C.shape or self.images_C.ndim != 1 or len(self.images_C) < 2:
            raise InputError(
                "`images_C` and `instances_C` must have one number for each of at least two classes, got shapes "
                f"{tuple(self.images_C.shape)} and {tuple(self.instances_C.shape)}"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes without background, C."""
        return len(self.images_C)

    @property
    def capped_images(self) -> Tensor:
        """Images that contain each class, at most all but one: a class in every image has infinite log odds."""
        return self.images_C.clamp(max=max(self.num_images - 1, 1))

    @property
    def with_background(self) -> ClassCounts:
        """Frequencies of background and of each class in common units, shape (C + 1,).

        Background has the mean of the classes that occur. All numbers are multiplied by the number of these classes, so
        that the mean is an integer.
        """
        return ClassCounts([int(self.instances_C.sum()), *(self.instances_C * (self.instances_C > 0).sum()).tolist()])


class SigmoidEqualization(Loss):
    """Sigmoid equalization loss (Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020).

    https://arxiv.org/abs/2003.05176, Eq. 3 to 5: the negative term of a rare class is removed from the rows of other
    classes, but not from background rows. `longtail.losses.EqualizationLoss` is the softmax form for classification.

    Args:
        class_counts: Training images that contain each class, shape (C,).
        num_images: Total number of training images. Default: the sum of the counts.
        threshold: Share of the images below which a class is rare. Default: 0.00177, as in the paper for LVIS v0.5.
        reduction: Reduction over the rows, see `Loss`.
        ignore_index: Label of the rows to ignore, see `Loss`.
        absent: Treatment of classes without training images, see `Loss`.

    Example:
        >>> loss = SigmoidEqualization([999, 1], threshold=0.01, reduction="none")
        >>> loss(torch.zeros(3, 2), torch.tensor([0, 1, 2]))  # frequent, rare, background
        tensor([0.6931, 1.3863, 1.3863])
    """

    takes_background = True
    balances = True
    rare_C: Tensor

    def __init__(
        self,
        class_counts: Countable,
        *,
        num_images: int | None = None,
        threshold: float = 1.77e-3,
        reduction: Reduction = "mean",
        ignore_index: int = -100,
        absent: Absent = "error",
    ) -> None:
        super().__init__(class_counts, reduction=reduction, ignore_index=ignore_index, absent=absent)
        check_number("num_images", num_images, "the total of images", integer=True, optional=True, at_least=1)
        check_number("threshold", threshold, "a share of the images", at_least=0, at_most=1)
        self.num_images, self.threshold = num_images, threshold
        total = float(self.counts_C.sum()) if num_images is None else num_images
        self.register_buffer("rare_C", self.counts_C / total < threshold, persistent=False)

    def per_example(self, logits_BC: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each row, shape (B,)."""
        if targets.ndim == 1:
            targets = (targets.unsqueeze(1) == torch.arange(len(self.counts_C), device=targets.device)).to(logits_BC)
        foreground_B1 = targets.sum(dim=1, keepdim=True) > 0
        dropped_BC = foreground_B1 & self.rare_C & (targets == 0)
        terms_BC = F.binary_cross_entropy_with_logits(logits_BC, targets, reduction="none")
        return terms_BC.masked_fill(dropped_BC, 0.0).sum(dim=1)


def _plain_sigmoid(counts: LabelCounts, reduction: Reduction) -> Loss:
    return BalancedSigmoid([1] * counts.num_classes, reduction=reduction)  # equal counts shift nothing


def _balanced_sigmoid(counts: LabelCounts, reduction: Reduction) -> Loss:
    return BalancedSigmoid(
        counts.capped_images, num_images=counts.num_images, test_rate=0.5, reduction=reduction, absent="mask"
    )


def _equalization(counts: LabelCounts, reduction: Reduction, *, threshold: float = 1.77e-3) -> Loss:
    return SigmoidEqualization(
        counts.images_C, num_images=counts.num_images, threshold=threshold, reduction=reduction, absent="mask"
    )


def _softmax(counts: LabelCounts, reduction: Reduction) -> Loss:
    return CrossEntropy(counts.with_background, reduction=reduction, absent="mask")


def _balanced_softmax(counts: LabelCounts, reduction: Reduction, *, power: float = 1.0) -> Loss:
    return BalancedSoftmax(counts.with_background, power=power, reduction=reduction, absent="mask")


def _seesaw(counts: LabelCounts, reduction: Reduction, *, p: float = 0.8, q: float = 2.0) -> Loss:
    return SeesawLoss(counts.with_background, p=p, q=q, reduction=reduction, absent="mask")


def _focal(counts: LabelCounts, reduction: Reduction, *, gamma: float = 1.0) -> Loss:
    return FocalLoss(counts.with_background, gamma=gamma, reduction=reduction, absent="mask")


@dataclass(frozen=True)
class BoxClassifier:
    """A kind of box classifier.

    Args:
        activation: Outputs and scores.
        build: Function from counts and reduction to the loss; its keyword-only arguments are the options.
        about: Description in one line.
    """

    activation: Activation
    build: Callable[..., Loss]
    about: str


BOX_CLASSIFIERS: Mapping[str, BoxClassifier] = {
    "softmax": BoxClassifier("softmax", _softmax, "cross-entropy over background and classes"),
    "sigmoid": BoxClassifier("sigmoid", _plain_sigmoid, "one binary cross-entropy per class"),
    "balanced-softmax": BoxClassifier("softmax", _balanced_softmax, "softmax weighted by the instances of each class"),
    "balanced-sigmoid": BoxClassifier("sigmoid", _balanced_sigmoid, "sigmoid form of Balanced Softmax, as in BALMS"),
    "equalization": BoxClassifier("sigmoid", _equalization, "no negative gradients of other classes on rare ones"),
    "seesaw": BoxClassifier("softmax", _seesaw, "reduced negative gradients on rare classes"),
    "focal": BoxClassifier("softmax", _focal, "reduced weight of well-classified proposals"),
}
"""Box classifiers by name."""


def box_classifier(component: Component) -> BoxClassifier:
    """Return a box classifier after checking its name and the names of the options.

    Args:
        component: Name and options.

    Raises:
        InputError: If the name or an option is unknown.

    Example:
        >>> box_classifier(Component("balanced-sigmoid")).activation
        'sigmoid'
    """
    if component.name not in BOX_CLASSIFIERS:
        raise unknown_name("box classifier", component.name, BOX_CLASSIFIERS)
    found = BOX_CLASSIFIERS[component.name]
    known = keyword_options(found.build)
    for option in component.options:
        if option not in known:
            raise unknown_name(f"option of {component.name}", option, known)
    return found


class BoxLoss(nn.Module):
    """Loss of the box classifier: logits and labels of proposals to a scalar, the mean over the proposals.

    Args:
        component: Name and options of the box classifier.
        counts: Frequencies of the classes.
        reduction: "mean" over the proposals, or "none" for shape (B,).

    Raises:
        InputError: If the name or an option is unknown or out of range.

    Example:
        >>> counts = LabelCounts(torch.tensor([8, 2]), torch.tensor([9, 3]), num_images=10)
        >>> loss = BoxLoss(Component("balanced-sigmoid"), counts, reduction="none")
        >>> loss(torch.zeros(2, 2), torch.tensor([2, 0]))  # foreground: 2 log 5; background: 2 log 2
        tensor([3.2189, 1.3863])
    """

    def __init__(self, component: Component, counts: LabelCounts, reduction: Reduction = "mean") -> None:
        super().__init__()
        kind = box_classifier(component)
        self.activation, self.num_classes = kind.activation, counts.num_classes
        self.loss = kind.build(counts, reduction, **component.options)

    def targets(self, labels_B: Tensor) -> Tensor:
        """Return the labels of the loss for those of a detector (0 is background)."""
        if self.activation == "softmax":
            return labels_B
        return torch.where(labels_B == 0, self.num_classes, labels_B - 1)

    def forward(self, logits_BK: Tensor, labels_B: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits_BK: Logits (B, C + 1) with background first, or (B, C) of sigmoids.
            labels_B: Classes 1 .. C, 0 for background.
        """
        loss: Tensor = self.loss(logits_BK, self.targets(labels_B))
        return loss


def scores_of(logits_BK: Tensor, activation: Activation) -> Tensor:
    """Return the score of each class, without background, in [0, 1]. Shape (B, C).

    Example:
        >>> scores_of(torch.zeros(1, 4), "softmax"), scores_of(torch.zeros(1, 3), "sigmoid")
        (tensor([[0.2500, 0.2500, 0.2500]]), tensor([[0.5000, 0.5000, 0.5000]]))
    """
    return logits_BK.softmax(dim=1)[:, 1:] if activation == "softmax" else logits_BK.sigmoid()
