"""Training end to end: a sampler, an augmentation, a way of mixing, a transfer, a loss, an embedding loss."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import longtail.augment as mixings
import longtail.embedding as embedding
import longtail.losses as losses
import longtail.samplers as samplers
import longtail.transfer as transfers
from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.models.base import channels_at
from longtail.models.classifier import Classifier
from longtail.samplers.base import Sampler
from longtail.stages.base import Stage
from longtail.stages.guard import refuse_head
from longtail.stages.scoring import scorer
from longtail.training.context import Context
from longtail.training.loop import train
from longtail.training.step import Step


@dataclass(frozen=True)
class Train(Stage):
    """Train the whole model.

    Args:
        loss: class of `longtail.losses`, built with the class counts.
        sampler: class of `longtail.samplers`, built with the labels.
        training: epochs, batch size, augmentation, optimizer, schedule, precision. Where a transfer or an embedding
            loss asks for a second stream of images, the batch size is that of each stream, and an epoch sees as many
            images of the second as of the first.
        mixing: class of `longtail.augment`, built with the class counts; None mixes no images.
        transfer: class of `longtail.transfer`, built with the class counts and the channels of the maps it changes.
        embedding_loss: class of `longtail.embedding`, built with the class counts and the embedding dimension, and
            added to the loss by its `weight`.
        balance_twice: a balanced loss under a balanced sampler is meant, so nobody warns.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mixing: Component | None = None
    transfer: Component | None = None
    embedding_loss: Component | None = None
    balance_twice: bool = False

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)
        for component, package in (
            (self.mixing, mixings),
            (self.transfer, transfers),
            (self.embedding_loss, embedding),
        ):
            if component is not None:
                component.check(package)
        if self.mixing is not None and (self.transfer or self.embedding_loss):
            other = self.transfer or self.embedding_loss
            raise InputError(
                f"{self.mixing.name} makes one image of two classes, and {other and other.name} needs to know of which "
                "one an image is; leave one of them out"
            )

    def check(self, data: Dataset, head: Component) -> Component:
        """The head stays; a loss that takes cosines needs a cosine head.

        All parts are built once, in vain, so that a value that one of them refuses leaves no run behind.
        """
        refuse_head(self.loss, head)
        with torch.random.fork_rng(devices=[]):
            self.loss.build(losses, data.class_counts)
            self.sampler.build(samplers, data.train.targets)
            if self.mixing is not None:
                self.mixing.build(mixings, data.class_counts)
            for part, package in ((self.transfer, transfers), (self.embedding_loss, embedding)):
                if part is not None:
                    part.build(package, data.class_counts, 1)  # the width of the net is not known yet
        return head

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train `model` in place and give it back."""
        step = self._step(model, data)
        mixing = None if self.mixing is None else self.mixing.build(mixings, data.class_counts)
        sampler, training = self._streams(step, data.train.targets)
        train(step, data.train, sampler, training, context, scorer(data, context), mixing)
        return model

    def _step(self, model: Classifier, data: Dataset) -> Step:
        loss = self.loss.build(losses, data.class_counts)
        transfer = embedding_loss = None
        if self.transfer is not None:
            transfer = self.transfer.build(transfers, data.class_counts, self._channels(self.transfer, model, data))
        if self.embedding_loss is not None:
            dimension = model.backbone.embedding_dim
            embedding_loss = self.embedding_loss.build(embedding, data.class_counts, dimension)
        return Step(model, loss, embedding_loss=embedding_loss, transfer=transfer)

    def _channels(self, transfer: Component, model: Classifier, data: Dataset) -> int:
        if not transfer.check(transfers).uses_maps:
            dimension = model.backbone.embedding_dim
            assert isinstance(dimension, int)
            return dimension
        return channels_at(model.backbone, transfer.options.get("at"), data.train.images.size)

    def _streams(self, step: Step, targets_N: Tensor) -> tuple[Sampler, TrainingConfig]:
        """The sampler, and the settings: for two streams, both double."""
        asked = [part.stream for part in (step.transfer, step.embedding_loss) if part is not None and part.stream]
        if not asked:
            return self.sampler.build(samplers, targets_N), self.training
        streams = {"first": to_mapping(self.sampler), "second": to_mapping(asked[0])}
        sampler = Component("TwoStreamSampler", {"num_samples": 2 * len(targets_N), **streams})
        unit = self.training.epoch_unit
        doubled = replace(self.training, batch_size=2 * self.training.batch_size, epoch_unit=unit and 2 * unit)
        return sampler.build(samplers, targets_N), doubled
