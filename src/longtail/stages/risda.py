"""Implicit augmentation of rare classes by what they are mistaken for: the second stage of RISDA.

Chen et al., "Imagine by Reasoning: A Reasoning-Based Implicit Semantic Data Augmentation for Long-Tailed
Classification", AAAI 2022, https://arxiv.org/abs/2112.07928. The embeddings of a class are thought of as drawn around
each of its images; a rare class borrows where to and how wide from the classes that it is mistaken for. Over infinitely
many draws the cross-entropy has a bound that needs no draw (ISDA, Wang et al., 2019):

    z_j + alpha (w_j - w_y) m_y + beta / 2 (w_j - w_y) S_y (w_j - w_y)    in the place of the logit z_j of an image of y

with S_c = sum_k G_ck Cov_k and m_c = sum_k G_ck mean_k - mean_c for a rare class c, and S_c = Cov_c, m_c = 0 for a full
one; G_ck is the share of the images of c that the net takes for k. Where we differ from the authors' code
(`xiaohua-chen/RISDA`), which sees augmented images: the backbone stands still, so means and covariances are computed
once and exactly, from the features of the images as they are, and mixed by G once (the code does so again in each step,
on top of the step before). It also adds the shift both to the embedding and to the logits, twice what the paper says,
and to full classes too. Its G is that of the epoch with the best training accuracy, rounded to 2 digits.
Shapes: N = images, B = batch, D = embedding dimension, C = classes.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from longtail._logging import console
from longtail.component import Component
from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.data.counts import ClassCounts, Countable
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.evaluation.metrics import confusion_matrix
from longtail.losses.base import Loss, cross_entropy
from longtail.losses.class_balanced import effective_number_weights
from longtail.models.classifier import LINEAR, Classifier
from longtail.samplers import InstanceSampler
from longtail.stages.base import Stage
from longtail.stages.retrain import frozen
from longtail.stages.scoring import feature_scorer
from longtail.training.context import Context
from longtail.training.features import Features, features_of
from longtail.training.loop import train
from longtail.training.step import Step

OVERLAP = 0.9999
"""Of the effective number of images, by whose inverse a class is weighted."""
MOST_NUMBERS = 2**30
"""In the covariances of all classes: 4 GiB, of which a step needs a few times as much."""

# the last 40 of the authors' 200 epochs
AUTHORS = TrainingConfig(
    epochs=40,
    batch_size=100,
    optimizer=OptimizerConfig(lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=ScheduleConfig(kind="multistep", milestones=(0.5,), gamma=0.01, per="epoch"),
)


# mean share of a class's training images that are recognised, above which there is no class to borrow from
NOTHING_TO_REASON_FROM = 0.99


@dataclass(frozen=True)
class RetrainRISDA(Stage):
    """Train the linear head alone, on features computed once, with rare classes augmented without drawing anything.

    Args:
        alpha: of the shift of the mean.
        beta: of the covariance.
        head_share: share of the classes, the fullest, that borrow nothing (the authors' 20 of the 100 of CIFAR-100).
        ramp_from: share of the whole training that lies before the stage: alpha and beta grow with the share of the
            whole that has been done, up to their full value at the end.
        training: epochs, batch size, optimizer, schedule, precision; without augmentation.
    """

    alpha: float = 1.0
    beta: float = 0.5
    head_share: float = 0.2
    ramp_from: float = 0.8
    training: TrainingConfig = field(default_factory=lambda: AUTHORS)

    def __post_init__(self) -> None:
        if min(self.alpha, self.beta) < 0:
            raise InputError(f"alpha and beta must be >= 0 (0 borrows nothing), not {self.alpha} and {self.beta}")
        for name in ("head_share", "ramp_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], not {getattr(self, name)}")
        if self.training.augment != "none":
            raise InputError(
                "RetrainRISDA augments features, which are computed once from the images as they are; "
                f"say augment: none in its training settings, not {self.training.augment}"
            )

    def check(self, data: Dataset, head: Component) -> Component:
        """The head that the stage leaves.

        Raises:
            InputError: if it is to be given another than a linear one, or a class has no training image.
        """
        if head != LINEAR:
            raise InputError(f"RetrainRISDA trains a LinearHead, but the model will have a {head.name}")
        RISDALoss(data.class_counts)  # which refuses a class without an image
        return head

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train the head of `model` in place and give the model back."""
        self.check(data, model.head_component)
        features = features_of(model, data, "train", context)
        if context.saved is None:
            taken_for_CC = mistakes(model, features, data.class_counts)
            right = float(taken_for_CC.diagonal().mean())
            if right > NOTHING_TO_REASON_FROM:
                console.print(
                    f"warning: RISDA reasons from mistakes, and the model makes almost none on its training images "
                    f"({right:.1%} right by class): what remains is augmentation by each class's own covariance"
                )
        else:  # the head has learnt since
            taken_for_CC = context.saved["loss"]["taken_for_CC"].to(context.device)
        loss = RISDALoss(data.class_counts, alpha=self.alpha, beta=self.beta, ramp_from=self.ramp_from)
        loss.learn(features, taken_for_CC, fullest(data.class_counts, self.head_share))
        with frozen(model.backbone):
            sampler = InstanceSampler(data.train.targets)
            score = feature_scorer(model, data, context)
            train(_AugmentedStep(model, loss), features.part(), sampler, self.training, context, score)
        return model


class RISDALoss(Loss):
    """Cross-entropy weighted by class, in expectation over embeddings spread around those that are given.

    Args:
        class_counts: training images per class, shape (C,).
        alpha: of the shift of the mean.
        beta: of the covariance.
        ramp_from: share of alpha and beta that is in force at first; all of it is at the end.

    Raises:
        InputError: if a class has no training image.

    Example:
        >>> features = Features(torch.tensor([[1.0], [3.0], [-1.0], [-1.0]]), torch.tensor([0, 0, 1, 1]))
        >>> loss = RISDALoss([2, 2], alpha=0.0, beta=1.0, ramp_from=1.0)
        >>> loss.learn(features, torch.eye(2), torch.tensor([True, True]))
        >>> loss.covariances_CDD.flatten(), loss.offsets(torch.tensor([[1.0], [-1.0]]))
        (tensor([1., 0.]), tensor([[0., 2.],
                                   [0., 0.]]))
    """

    balances: ClassVar[bool] = True
    weights_C: Tensor
    taken_for_CC: Tensor
    covariances_CDD: Tensor
    shifts_CD: Tensor

    def __init__(
        self, class_counts: Countable, *, alpha: float = 1.0, beta: float = 0.5, ramp_from: float = 0.8
    ) -> None:
        super().__init__(class_counts)
        self.alpha, self.beta, self.ramp_from = alpha, beta, ramp_from
        self.set_progress(0.0)
        weights_C = effective_number_weights(self.counts_C, OVERLAP).float()
        self.register_buffer("weights_C", weights_C, persistent=False)

    def learn(self, features: Features, taken_for_CC: Tensor, is_full_C: Tensor) -> None:
        """Take the classes' means and covariances, and let the rare ones borrow.

        Args:
            features: of all training images.
            taken_for_CC: share of the images of each class (row) that is taken for each class (column).
            is_full_C: which classes borrow nothing.

        Raises:
            InputError: if the covariances are too large to be held.
        """
        means_CD, own_CDD = class_statistics(features, len(self.counts_C))
        is_full_C1 = is_full_C.to(means_CD.device)[:, None]
        borrowed_CC = torch.where(is_full_C1, torch.eye(len(means_CD), device=means_CD.device), taken_for_CC)
        # all else follows from the features and from this, which a checkpoint therefore keeps
        self.register_buffer("taken_for_CC", taken_for_CC)
        self.register_buffer("shifts_CD", borrowed_CC @ means_CD - means_CD, persistent=False)
        covariances_CDD = (borrowed_CC @ own_CDD.flatten(1)).view_as(own_CDD)
        self.register_buffer("covariances_CDD", covariances_CDD, persistent=False)

    def set_progress(self, progress: float) -> None:
        """Alpha and beta grow with the share of the whole training that has been done."""
        self.strength = self.ramp_from + (1 - self.ramp_from) * progress

    def offsets(self, weight_CD: Tensor) -> Tensor:
        """What is added to the logit of each class (column) where another one (row) is true, shape (C, C)."""
        with torch.autocast(weight_CD.device.type, enabled=False):  # differences of large numbers
            return self.strength * (self._shift(weight_CD) + self._spread(weight_CD))

    def _shift(self, weight_CD: Tensor) -> Tensor:
        moved_CC = self.shifts_CD @ weight_CD.T
        return self.alpha * (moved_CC - moved_CC.diagonal()[:, None])

    def _spread(self, weight_CD: Tensor) -> Tensor:
        """The quadratic form, multiplied out, so that no difference of two class vectors is ever written down."""
        squares_CDD = weight_CD[:, :, None] * weight_CD[:, None, :]
        quadratic_CC = self.covariances_CDD.flatten(1) @ squares_CDD.flatten(1).T
        own_CD = torch.bmm(self.covariances_CDD, weight_CD[:, :, None]).squeeze(2)
        return self.beta / 2 * (quadratic_CC - 2 * own_CD @ weight_CD.T + quadratic_CC.diagonal()[:, None])

    def per_example(self, logits_BC: Tensor, targets: Tensor, *extra: Tensor) -> Tensor:
        """Loss of each example, shape (B,), from labels; `extra` is the weight of the head, (C, D)."""
        (weight_CD,) = extra
        weights_B = self.weights_C[targets]
        losses_B = cross_entropy(logits_BC + self.offsets(weight_CD)[targets], targets)
        return losses_B * (weights_B / weights_B.mean())  # a batch is divided by its weights


class _AugmentedStep(Step):
    """Embeddings through the head; the loss is told the head's weight."""

    def __init__(self, model: Classifier, loss: RISDALoss) -> None:
        super().__init__(model, loss, "skip")

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch of embeddings."""
        loss: Tensor = self.loss(self.model.head(images_BCHW), targets, self.model.head.weight)
        return loss


@torch.no_grad()
def class_statistics(features: Features, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean (C, D) and covariance (C, D, D) of each class, divided by its number of images; 0 where it has none.

    Raises:
        InputError: if the covariances are too large to be held.

    Example:
        >>> means, covariances = class_statistics(Features(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1])), 2)
        >>> means.flatten(), covariances.flatten()
        (tensor([0., 2.]), tensor([0., 1.]))
    """
    embeddings_ND, dim = features.embeddings_ND, features.embeddings_ND.shape[1]
    if num_classes * dim**2 > MOST_NUMBERS:
        raise InputError(
            f"the covariances of {num_classes} classes in {dim} dimensions take "
            f"{4 * num_classes * dim**2 / 2**30:.0f} GiB, more than {4 * MOST_NUMBERS / 2**30:.0f}; "
            "take a backbone with a smaller embedding"
        )
    counts_C = torch.bincount(features.targets_N, minlength=num_classes)
    by_class = embeddings_ND[features.targets_N.argsort(stable=True).to(embeddings_ND.device)]
    means_CD = embeddings_ND.new_zeros(num_classes, dim)
    covariances_CDD = embeddings_ND.new_zeros(num_classes, dim, dim)
    of_classes = by_class.split(counts_C.tolist())  # type: ignore[no-untyped-call]
    for label, rows_MD in enumerate(of_classes):
        if len(rows_MD):
            means_CD[label] = rows_MD.mean(dim=0)
            centred_MD = rows_MD - means_CD[label]
            covariances_CDD[label] = centred_MD.T @ centred_MD / len(rows_MD)
    return means_CD, covariances_CDD


@torch.no_grad()
def mistakes(model: Classifier, features: Features, counts: ClassCounts) -> Tensor:
    """Share of the images of each class (row) that the model's head takes for each class (column), shape (C, C)."""
    predicted_N = model.head(features.embeddings_ND).argmax(dim=1).cpu()
    confused_CC = confusion_matrix(predicted_N, features.targets_N, len(counts)).float()
    return (confused_CC / confused_CC.sum(dim=1, keepdim=True).clamp(min=1)).to(features.embeddings_ND.device)


def fullest(counts: ClassCounts, share: float) -> Tensor:
    """Which classes are among the fullest share of all, shape (C,); of equally full ones, the first.

    Example:
        >>> fullest(ClassCounts([5, 500, 50]), 1 / 3)
        tensor([False,  True, False])
    """
    return counts.quantile_groups((share, 0.0))["many"]
