"""Second stage of RISDA: implicit augmentation of rare classes by the classes they are confused with.

Chen et al., "Imagine by Reasoning: A Reasoning-Based Implicit Semantic Data Augmentation for Long-Tailed
Classification", AAAI 2022, https://arxiv.org/abs/2112.07928. The embeddings of a class are modeled as draws around each
of its images. A rare class borrows the mean and the covariance of these draws from the classes it is confused with.
Over infinitely many draws, the cross-entropy has an upper bound in closed form (ISDA, Wang et al., 2019):

    z_j + alpha (w_j - w_y) m_y + beta / 2 (w_j - w_y) S_y (w_j - w_y)    replaces the logit z_j of an image of class y

with S_c = sum_k G_ck Cov_k and m_c = sum_k G_ck mean_k - mean_c for a rare class c, and S_c = Cov_c, m_c = 0 for a
frequent one. G_ck is the share of the images of class c that the model predicts as class k.

Where we differ from the authors' code (`xiaohua-chen/RISDA`), which sees augmented images: the backbone is frozen, so
means and covariances are computed once and exactly, from the features of the plain images, and combined by G once (the
code does so in each step, on top of the step before). The code also adds the shift both to the embedding and to the
logits, twice the value in the paper, and to frequent classes too. Its G is that of the epoch with the best training
accuracy, rounded to 2 digits.
Shapes: N = images, B = batch, D = embedding dimension, C = classes.
"""

import logging
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from longtail.component import Component
from longtail.config.schema import OptimizerConfig, ScheduleConfig, TrainingConfig
from longtail.data.counts import ClassCounts, Countable
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.evaluation.metrics import confusion_matrix
from longtail.losses.base import Loss, cross_entropy
from longtail.losses.class_balanced import effective_number_weights
from longtail.models.classifier import LINEAR, Classifier
from longtail.ranges import check_ranges, ranged
from longtail.samplers import InstanceSampler
from longtail.stages.base import PreparedStage, Stage, feature_scorer
from longtail.stages.retrain import frozen
from longtail.training.context import Context
from longtail.training.features import Features, features_of
from longtail.training.loop import train
from longtail.training.step import Step

logger = logging.getLogger("longtail")

OVERLAP = 0.9999
"""Beta of the effective number of images, whose inverse is the class weight."""
MOST_NUMBERS = 2**30
"""Largest number of entries of all class covariances: 4 GiB, of which a step needs a few times as much."""
MOST_CORRECT = 0.99
"""Mean training accuracy per class above which there are no confusions to borrow from."""

# the last 40 of the authors' 200 epochs; their code counts from 1, so the drop at 180 precedes epoch 179 from 0
AUTHORS = TrainingConfig(
    epochs=40,
    batch_size=100,
    optimizer=OptimizerConfig(lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True),
    schedule=ScheduleConfig(kind="multistep", milestones=(19 / 40,), gamma=0.01, per="epoch"),
)


@dataclass(frozen=True)
class RetrainRISDA(Stage):
    """Training of the linear head alone, on features computed once, with implicit augmentation of rare classes.

    Args:
        alpha: Weight of the shift of the mean.
        beta: Weight of the covariance.
        head_share: Share of the classes, the most frequent ones, that borrow nothing (the authors' 20 of the 100
            classes of CIFAR-100).
        ramp_from: Share of the whole training that precedes this stage. `alpha` and `beta` grow with the share of
            the whole training that is done, up to their full value at the end.
        training: Epochs, batch size, optimizer, schedule and precision; without augmentation.

    Raises:
        InputError: For a number out of range, or an augmentation.
    """

    alpha: float = ranged(1.0, at_least=0)
    beta: float = ranged(0.5, at_least=0)
    head_share: float = ranged(0.2, at_least=0, at_most=1)
    ramp_from: float = ranged(0.8, at_least=0, at_most=1)
    training: TrainingConfig = field(default_factory=lambda: AUTHORS)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.training.augment != "none":
            raise InputError(
                f'`training.augment` of RetrainRISDA must be "none", got {self.training.augment!r}: it augments '
                "features, which are computed once from the plain images"
            )

    def training_settings(self) -> TrainingConfig:
        """Return the training settings."""
        return self.training

    def balances(self) -> bool:
        """Return True: the loss weights the classes and augments the rare ones."""
        return True

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the loss once.

        Raises:
            InputError: If the head is not linear, or a class has no training image.
        """
        if head != LINEAR:
            raise InputError(f"RetrainRISDA trains a LinearHead, but the model will have a {head.name}")
        loss = RISDALoss(data.class_counts, alpha=self.alpha, beta=self.beta, ramp_from=self.ramp_from)
        sampler = InstanceSampler(data.train.targets)

        def run(model: Classifier, context: Context) -> Classifier:
            features = features_of(model, data, "train", context)
            if context.saved is None:
                confused_CC = confusion_shares(model, features, data.class_counts)
                _warn_without_confusions(confused_CC)
            else:  # the head has learned since
                confused_CC = context.saved["loss"]["taken_for_CC"].to(context.device)
            loss.learn(features, confused_CC, most_frequent(data.class_counts, self.head_share))
            with frozen(model.backbone):
                score = feature_scorer(model, data, context)
                train(_AugmentedStep(model, loss), features.part(), sampler, self.training, context, score)
            return model

        return PreparedStage(head, run)


def _warn_without_confusions(confused_CC: Tensor) -> None:
    correct = float(confused_CC.diagonal().mean())
    if correct > MOST_CORRECT:
        logger.warning(
            "RISDA borrows from the classes that a class is confused with, but the model makes almost no mistakes on "
            "its training images (%.1f%% correct per class). Only the augmentation by each class's own covariance "
            "remains.",
            100 * correct,
        )


class RISDALoss(Loss):
    """Class-weighted cross-entropy in expectation over embeddings that are spread around the given ones.

    Args:
        class_counts: Training images per class, shape (C,).
        alpha: Weight of the shift of the mean.
        beta: Weight of the covariance.
        ramp_from: Share of `alpha` and `beta` at the start of the stage. All of it applies at the end.

    Raises:
        InputError: If a class has no training image.

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
    strength: Tensor

    def __init__(
        self, class_counts: Countable, *, alpha: float = 1.0, beta: float = 0.5, ramp_from: float = 0.8
    ) -> None:
        super().__init__(class_counts)
        self.alpha, self.beta, self.ramp_from = alpha, beta, ramp_from
        # a tensor, so that a recorded step reads its present value
        self.register_buffer("strength", torch.tensor(ramp_from), persistent=False)
        weights_C = effective_number_weights(self.counts_C, OVERLAP).float()
        self.register_buffer("weights_C", weights_C, persistent=False)

    def learn(self, features: Features, confused_CC: Tensor, is_frequent_C: Tensor) -> None:
        """Compute the means and covariances of the classes, and combine those of rare classes.

        Args:
            features: Features of all training images.
            confused_CC: Share of the images of each class (row) that is predicted as each class (column).
            is_frequent_C: Mask of the classes that borrow nothing.

        Raises:
            InputError: If the covariances are too large for the memory.
        """
        means_CD, own_CDD = class_statistics(features, len(self.counts_C))
        is_frequent_C1 = is_frequent_C.to(means_CD.device)[:, None]
        borrowed_CC = torch.where(is_frequent_C1, torch.eye(len(means_CD), device=means_CD.device), confused_CC)
        # everything else follows from the features and this matrix, so a checkpoint keeps it (under its first name)
        self.register_buffer("taken_for_CC", confused_CC)
        self.register_buffer("shifts_CD", borrowed_CC @ means_CD - means_CD, persistent=False)
        covariances_CDD = (borrowed_CC @ own_CDD.flatten(1)).view_as(own_CDD)
        self.register_buffer("covariances_CDD", covariances_CDD, persistent=False)

    def set_progress(self, progress: float) -> None:
        """Set the strength of `alpha` and `beta` from the share of the stage that is done."""
        self.strength.fill_(self.ramp_from + (1 - self.ramp_from) * progress)

    def offsets(self, weight_CD: Tensor) -> Tensor:
        """Return the offsets of the logits, shape (C, C): row = true class, column = class of the logit."""
        with torch.autocast(weight_CD.device.type, enabled=False):  # differences of large numbers
            return self.strength * (self._shift(weight_CD) + self._spread(weight_CD))

    def _shift(self, weight_CD: Tensor) -> Tensor:
        moved_CC = self.shifts_CD @ weight_CD.T
        return self.alpha * (moved_CC - moved_CC.diagonal()[:, None])

    def _spread(self, weight_CD: Tensor) -> Tensor:
        """Return the quadratic form, expanded, so that no difference of two class vectors is stored."""
        weight_CD = weight_CD - weight_CD.mean(dim=0)  # a common offset would cancel in float32
        squares_CDD = weight_CD[:, :, None] * weight_CD[:, None, :]
        quadratic_CC = self.covariances_CDD.flatten(1) @ squares_CDD.flatten(1).T
        own_CD = torch.bmm(self.covariances_CDD, weight_CD[:, :, None]).squeeze(2)
        return self.beta / 2 * (quadratic_CC - 2 * own_CD @ weight_CD.T + quadratic_CC.diagonal()[:, None])

    def per_example(self, logits_BC: Tensor, targets: Tensor, *extra: Tensor) -> Tensor:
        """Return the loss of each example, shape (B,), from integer labels; `extra` is the head's weight, (C, D)."""
        (weight_CD,) = extra
        weights_B = self.weights_C[targets]
        losses_B = cross_entropy(logits_BC + self.offsets(weight_CD)[targets], targets)
        return losses_B * (weights_B / weights_B.mean())  # a batch is divided by its weights


class _AugmentedStep(Step):
    """Step on embeddings that passes the weight of the head to the loss."""

    def __init__(self, model: Classifier, loss: RISDALoss) -> None:
        super().__init__(model, loss, "skip")

    def forward(self, images_BCHW: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch of embeddings."""
        loss: Tensor = self.loss(self.model.head(images_BCHW), targets, self.model.head.weight)
        return loss


@torch.no_grad()
def class_statistics(features: Features, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the mean (C, D) and the biased covariance (C, D, D) of each class; 0 for a class without images.

    Raises:
        InputError: If the covariances are too large for the memory.

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
            "use a backbone with a smaller embedding"
        )
    counts_C = torch.bincount(features.targets_N, minlength=num_classes)
    by_class = embeddings_ND[features.targets_N.argsort(stable=True).to(embeddings_ND.device)]
    means_CD = embeddings_ND.new_zeros(num_classes, dim)
    covariances_CDD = embeddings_ND.new_zeros(num_classes, dim, dim)
    of_classes = by_class.split(counts_C.tolist())  # type: ignore[no-untyped-call]
    for label, rows_MD in enumerate(of_classes):
        if len(rows_MD):
            means_CD[label] = rows_MD.mean(dim=0)
            centered_MD = rows_MD - means_CD[label]
            covariances_CDD[label] = centered_MD.T @ centered_MD / len(rows_MD)
    return means_CD, covariances_CDD


@torch.no_grad()
def confusion_shares(model: Classifier, features: Features, counts: ClassCounts) -> Tensor:
    """Return the share of the images of each class (row) that is predicted as each class (column), shape (C, C)."""
    predicted_N = model.head(features.embeddings_ND).argmax(dim=1).cpu()
    confused_CC = confusion_matrix(predicted_N, features.targets_N, len(counts)).float()
    return (confused_CC / confused_CC.sum(dim=1, keepdim=True).clamp(min=1)).to(features.embeddings_ND.device)


def most_frequent(counts: ClassCounts, share: float) -> Tensor:
    """Return the mask of the most frequent classes, shape (C,); among equally frequent ones the first come first.

    Example:
        >>> most_frequent(ClassCounts([5, 500, 50]), 1 / 3)
        tensor([False,  True, False])
    """
    return counts.quantile_groups((share, 0.0))["many"]
