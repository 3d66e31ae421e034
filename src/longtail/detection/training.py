"""Training of a detector and of its box classifier, by the loop of `longtail.training`.

Shapes: N = images, S = steps, B = batch of images or of their proposals (rows), D = width of the box head, C = classes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from longtail import _random as randomness
from longtail._logging import progress_bar
from longtail.config.training import TrainingConfig
from longtail.detection.augment import View, view_uniforms
from longtail.detection.box_losses import BoxLoss, LabelCounts
from longtail.detection.data import DetectionDataset
from longtail.detection.model import Detector
from longtail.detection.sampling import build_image_sampler
from longtail.detection.settings import DetectionTrain, FinetuneClassifier
from longtail.samplers import Sampler
from longtail.training.balms.reweigher import MetaReweigher, ReweighedStep, balanced_image_rates
from longtail.training.context import Context
from longtail.training.feed import shape_of_epoch
from longtail.training.loop import prepare, run_epochs
from longtail.training.state import TrainState
from longtail.training.step import Step

Targets = list[dict[str, Tensor]]
CACHE_BATCH = 8


@dataclass(frozen=True)
class DetectionSource:
    """Training images and how they are read.

    Args:
        data: Annotated images.
        view: Sizes and flips.
        workers: Processes that read images.
    """

    data: DetectionDataset
    view: View
    workers: int

    @property
    def counts(self) -> LabelCounts:
        """Frequencies of the classes."""
        return LabelCounts(self.data.image_counts_C, self.data.instance_counts_C, len(self.data))

    def read(
        self, order_SB: Tensor, uniforms_SBR: Tensor | None, device: torch.device
    ) -> Iterator[tuple[list[Tensor], Targets]]:
        """Yield images and targets of each batch, on the device."""
        batches = self.data.batches(order_SB, uniforms_SBR, view=self.view, device=device, workers=self.workers)
        for batch in batches:
            yield [image for image, _ in batch], [dict(target) for _, target in batch]


def train_detector(model: Detector, source: DetectionSource, stage: DetectionTrain, context: Context) -> None:
    """Train a detector in place. If the context holds a checkpoint of this stage, continue from it.

    Args:
        model: Detector.
        source: Training images.
        stage: Box classifier, sampler and training settings.
        context: Run state.

    Raises:
        InputError: If a loss is not finite.
        Interrupted: If the user asked to stop. The state is saved.
    """
    model.use_classifier(stage.classifier)
    sampler = build_image_sampler(stage.sampler, source.data.image_labels())
    step = DetectionStep(model, BoxLoss(stage.classifier, source.counts))
    settings = _settled(stage.training, sampler, context)
    prepare(cast(Step, step), settings, context)
    state = TrainState(cast(Step, step), settings, context)
    run_epochs(ImageFeed(source, sampler, settings, context), state)


def finetune_classifier(
    model: Detector, source: DetectionSource, stage: FinetuneClassifier, context: Context
) -> MetaReweigher | None:
    """Train the box classifier of a detector in place; all other weights stay.

    Args:
        model: Trained detector.
        source: Training images.
        stage: Box classifier, sampler, Meta Reweigher and training settings.
        context: Run state. If it holds a checkpoint of this stage, training continues from it.

    Returns:
        The Meta Reweigher, if the stage has one.

    Raises:
        InputError: If a loss is not finite.
        Interrupted: If the user asked to stop. The state is saved.
    """
    model.use_classifier(stage.classifier)
    labels = source.data.image_labels()
    sampler = build_image_sampler(stage.sampler, labels)
    step = ClassifierStep(model, BoxLoss(stage.classifier, source.counts))
    settings = _settled(stage.training, sampler, context)
    with only_classifier(model):
        prepare(cast(Step, step), settings, context)
        if not stage.reweigh:
            run_epochs(
                RowFeed(model, source, sampler, settings, stage, context),
                TrainState(cast(Step, step), settings, context),
            )
            return None
        state = ReweighState(step, source.counts, stage, settings, context)
        rates_N = image_rates(labels, source.counts.num_classes)
        run_epochs(RowFeed(model, source, sampler, settings, stage, context, rates_N), state)
    return state.reweigher


def _settled(settings: TrainingConfig, sampler: Sampler, context: Context) -> TrainingConfig:
    """Return the settings with the length in epochs and a definite precision, which the context records."""
    precision = "fp32" if settings.precision == "auto" else settings.precision
    context.compute.setdefault(str(context.stage), {}).update(precision=precision, channels_last=False)
    settings = settings.in_epochs(shape_of_epoch(settings, sampler)[1])
    return replace(settings, precision=precision, channels_last=False)


class DetectionStep(nn.Module):
    """Detector and the loss of its box classifier: images and targets -> a scalar.

    Args:
        model: Detector.
        loss: Loss of the box classifier.
    """

    backbone = "train"

    def __init__(self, model: Detector, loss: BoxLoss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def set_progress(self, progress: float) -> None:
        """Pass the share of the stage that is done to the loss."""
        self.loss.loss.set_progress(progress)

    def auxiliary_modules(self) -> dict[str, nn.Module]:
        """Return the modules that have a state in addition to the model, by name."""
        return {"loss": self.loss}

    def forward(self, images: list[Tensor], targets: Targets) -> Tensor:
        """Return the sum of the losses of proposals, boxes and masks."""
        outputs = self.model(images, targets)
        loss: Tensor = self.loss(outputs.pop("box_logits"), outputs.pop("box_labels"))
        return torch.stack([loss, *outputs.values()]).sum()


class ClassifierStep(DetectionStep):
    """Box classifier and its loss, on the rows of a frozen detector."""

    backbone = "skip"

    def train(self, mode: bool = True) -> "ClassifierStep":
        """Set the training mode of the loss. The detector stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def forward(self, rows_BD: Tensor, labels_B: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss of the box classifier."""
        loss: Tensor = self.loss(self.model.predictor.cls_score(rows_BD), labels_B)
        return loss


@contextmanager
def only_classifier(model: Detector) -> Iterator[None]:
    """Freeze everything but the box classifier while the context is open."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    for parameter in model.predictor.cls_score.parameters():
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


class ImageFeed:
    """Batches of images in the order of a sampler, in random views.

    The last batch is filled up from the start of the order.

    Args:
        source: Training images.
        sampler: Sampler that gives the order of each epoch.
        settings: Training settings with the length in epochs.
        context: Seed, stage and device.
    """

    stop_every = 1

    def __init__(self, source: DetectionSource, sampler: Sampler, settings: TrainingConfig, context: Context) -> None:
        self.source, self.sampler, self.epochs, self.device = source, sampler, settings.epochs, context.device
        self.batch_size, self.steps = shape_of_epoch(settings, sampler)
        self.stream = randomness.key("stream", context.seed, context.stage)

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """Yield images and targets of each step of an epoch, starting with step `first`."""
        uniforms_SBR = view_uniforms(self.steps, self.batch_size, self.stream, epoch)
        yield from self.source.read(self.order(epoch)[first:], uniforms_SBR[first:], self.device)

    def order(self, epoch: int) -> Tensor:
        """Return the positions of the images of an epoch, shape (S, B)."""
        order_M = self.sampler.order(self.stream, epoch, epoch / self.epochs)
        return order_M[torch.arange(self.steps * self.batch_size) % len(order_M)].view(self.steps, self.batch_size)


class RowFeed(ImageFeed):
    """Rows of the box classifier and their labels, and those of a class-balanced batch for the Meta Reweigher.

    Args:
        model: Frozen detector.
        source: Training images.
        sampler: Sampler of images.
        settings: Training settings with the length in epochs.
        stage: Settings of the stage.
        context: Seed, stage and device.
        rates_N: Rates at which the images of class-balanced batches are drawn; None yields no such batches.
    """

    def __init__(
        self,
        model: Detector,
        source: DetectionSource,
        sampler: Sampler,
        settings: TrainingConfig,
        stage: FinetuneClassifier,
        context: Context,
        rates_N: Tensor | None = None,
    ) -> None:
        super().__init__(source, sampler, settings, context)
        self.model, self.rates_N, self.meta_batch_size = model, rates_N, stage.meta_batch_size
        self.cached = CachedRows(model, source, context) if stage.cache else None

    def batches(self, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows and labels of each step, and those of the class-balanced batch if rates are given."""
        drawn = self._rows("draw", self.order(epoch), epoch, first)
        if self.rates_N is None:
            yield from drawn
            return
        generator = randomness.generator("meta images", self.stream, epoch)
        shape = (self.steps, self.meta_batch_size)
        meta_SM = torch.multinomial(self.rates_N, shape[0] * shape[1], replacement=True, generator=generator).view(
            shape
        )
        for batch, meta_batch in zip(drawn, self._rows("meta", meta_SM, epoch, first), strict=True):
            yield *batch, *meta_batch

    def _rows(self, purpose: str, order_SB: Tensor, epoch: int, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self.cached is not None:
            yield from map(self.cached.of, order_SB[first:])
            return
        stream = randomness.key(purpose, self.stream)
        uniforms_SBR = view_uniforms(order_SB.shape[0], order_SB.shape[1], stream, epoch)
        batches = self.source.read(order_SB[first:], uniforms_SBR[first:], self.device)
        for index, (images, targets) in enumerate(batches, first):
            torch.manual_seed(randomness.key("rows", stream, epoch, index))  # of the sample of proposals
            rows_BD, labels = self.model.rows(images, targets)
            yield rows_BD, torch.cat(labels)


class CachedRows:
    """Rows of the box classifier for every training image in its evaluation view, computed once.

    Args:
        model: Detector in evaluation mode.
        source: Training images.
        context: Seed, stage and device.
    """

    def __init__(self, model: Detector, source: DetectionSource, context: Context) -> None:
        self.rows: list[Tensor] = []
        self.labels: list[Tensor] = []
        indices_N = torch.arange(len(source.data))
        with progress_bar("proposals", len(indices_N), images_per_unit=1) as bar:
            for order_B in torch.split(indices_N, CACHE_BATCH):
                torch.manual_seed(randomness.key("cached rows", context.seed, context.stage, int(order_B[0])))
                for images, targets in source.read(order_B.unsqueeze(0), None, context.device):
                    rows_BD, labels = model.rows(images, targets)
                    self.rows += torch.split(rows_BD, [len(each) for each in labels])
                    self.labels += labels
                bar.advance(len(order_B))

    def of(self, images_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows and labels of images, one image after the other."""
        picked = images_B.tolist()
        return torch.cat([self.rows[i] for i in picked]), torch.cat([self.labels[i] for i in picked])


class ReweighState(TrainState):
    """State of a fine-tuning stage with the Meta Reweigher: that of any stage, and the rates.

    Args:
        step: Box classifier and its loss.
        counts: Frequencies of the classes.
        stage: Settings of the stage.
        settings: Training settings with the length in epochs.
        context: Run state.
    """

    def __init__(
        self,
        step: ClassifierStep,
        counts: LabelCounts,
        stage: FinetuneClassifier,
        settings: TrainingConfig,
        context: Context,
    ) -> None:
        self.reweigher = MetaReweigher(counts.num_classes).to(context.device)
        self.meta_optimizer = torch.optim.Adam(self.reweigher.parameters(), lr=stage.meta_lr)
        super().__init__(cast(Step, step), settings, context)
        assert isinstance(self.optimizer, torch.optim.SGD)  # checked by the settings
        self.box_loss = BoxLoss(stage.classifier, counts, reduction="none").to(context.device)
        self.reweighed = ReweighedStep(
            step.model.predictor.cls_score,
            self.box_loss.loss,
            self.reweigher,
            self.optimizer,
            self.meta_optimizer,
            shifted_meta_loss=stage.shifted_meta_loss,
        )

    def update(self, lr: float, *batch: Any) -> None:
        """Take a step of the rates by the effect of a step of the classifier, then the step of the classifier.

        Args:
            lr: Learning rate of the classifier.
            batch: Rows and labels, and those of the class-balanced batch.
        """
        self.set_lr(lr)
        rows_BD, labels_B, meta_MD, meta_labels_M = batch
        targets_B, meta_targets_M = self.box_loss.targets(labels_B), self.box_loss.targets(meta_labels_M)
        self.count(self.reweighed(rows_BD, targets_B, meta_MD, meta_targets_M))
        self.step += 1

    def extra_metrics(self) -> dict[str, Any]:
        """Return the rates, in the order of the classes."""
        return {"rates": [round(rate, 5) for rate in self.reweigher.rates.tolist()]}

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume, with the rates and their optimizer."""
        meta = {"reweigher": self.reweigher.state_dict(), "meta_optimizer": self.meta_optimizer.state_dict()}
        return {**super().state_dict(), **meta}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        super().load_state_dict(saved)
        self.reweigher.load_state_dict(saved["reweigher"])
        self.meta_optimizer.load_state_dict(saved["meta_optimizer"])


def image_rates(labels: Sequence[Sequence[int]], num_classes: int) -> Tensor:
    """Return the rates at which images are drawn for class-balanced batches: the largest 1 / f_c of their classes.

    Args:
        labels: Classes in each image, from 0.
        num_classes: Number of classes.

    Example:
        >>> image_rates([[0], [0, 1]], 2)
        tensor([1., 2.])
    """
    images_P = torch.repeat_interleave(torch.tensor([len(each) for each in labels]))
    labels_P = torch.tensor([label for each in labels for label in each], dtype=torch.int64)
    return balanced_image_rates(images_P, labels_P, len(labels), num_classes)
