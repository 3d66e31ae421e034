"""End-to-end training: a sampler, an augmentation, image mixing, a transfer, a loss and an embedding loss."""

import copy
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

import longtail.augment as mixings
import longtail.embedding as embedding
import longtail.losses as losses
import longtail.samplers as samplers
import longtail.transfer as transfers
from longtail.component import Component
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset, Images
from longtail.errors import InputError
from longtail.models import adapters
from longtail.models.base import channels_at
from longtail.models.classifier import Classifier, fresh_head, head_class
from longtail.models.heads import CosineHead
from longtail.ranges import OMIT_DEFAULT
from longtail.samplers.base import Sampler
from longtail.stages.base import (
    PreparedStage,
    Stage,
    balances,
    build_loss,
    build_sampler,
    double_balancing_warnings,
    refuse_head,
    scorer,
)
from longtail.training.context import Context
from longtail.training.features import features_of
from longtail.training.feed import shape_of_epoch
from longtail.training.loop import train
from longtail.training.step import Step


@dataclass(frozen=True)
class Train(Stage):
    """Training of the whole model.

    Args:
        loss: Class of `longtail.losses`, built with the class counts.
        sampler: Class of `longtail.samplers`, built with the labels.
        training: Epochs, batch size, augmentation, optimizer, schedule and precision. If a transfer or an embedding
            loss requests a second stream of images, the batch size is that of each stream, and an epoch draws as many
            images of the second stream as of the first.
        mixing: Class of `longtail.augment` that mixes images, built with the class counts. None mixes no images.
        transfer: Class of `longtail.transfer`, built with the class counts and the channels of the feature maps that it
            changes.
        embedding_loss: Class of `longtail.embedding`, built with the class counts and the embedding dimension. It is
            added to the loss, scaled by its `weight`.
        allow_double_balancing: Suppress the warning about combining a balanced loss with a balanced sampler.
        adapter: Class of `longtail.models.adapters`. The backbone is frozen, and only the adapter and the head learn.
        head: Head of `longtail.models` that replaces the present one before the training. None keeps the present one.
        head_start: "random" weights, or "class_means" for a `CosineHead`: the mean direction of the embeddings of each
            class, as in LIFT (Shi et al., ICML 2024).

    Raises:
        InputError: For an unknown component or option, or for mixing together with a transfer or an embedding loss.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mixing: Component | None = None
    transfer: Component | None = None
    embedding_loss: Component | None = None
    allow_double_balancing: bool = False
    # these were added later: a configuration without them keeps its mapping, and so its digest
    adapter: Component | None = field(default=None, metadata=OMIT_DEFAULT)
    head: Component | None = field(default=None, metadata=OMIT_DEFAULT)
    head_start: Literal["random", "class_means"] = field(default="random", metadata=OMIT_DEFAULT)

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)
        if self.head is not None:
            head_class(self.head)
        optional = (
            (self.mixing, mixings),
            (self.transfer, transfers),
            (self.embedding_loss, embedding),
            (self.adapter, adapters),
        )
        for component, package in optional:
            if component is not None:
                component.check(package)
        other = self.transfer or self.embedding_loss
        if self.mixing is not None and other is not None:
            raise InputError(
                f"{self.mixing.name} makes one image of two classes, but {other.name} requires the single class of "
                "each image; remove one of them"
            )

    def training_settings(self) -> TrainingConfig:
        """Return the training settings."""
        return self.training

    def image_settings(self) -> dict[str, str]:
        """Return the settings in use that need images rather than features, each with the reason."""
        reasons = {
            "mixing": "mixes images",
            "transfer": "changes the feature maps of a backbone",
            "embedding_loss": "trains a backbone",
            "adapter": "changes a backbone",
        }
        return {name: reason for name, reason in reasons.items() if getattr(self, name) is not None}

    def balances(self) -> bool:
        """Return whether the loss or the sampler compensates for the class counts."""
        return balances(self.loss, self.sampler)

    def warnings(self) -> list[str]:
        """Return a warning if loss and sampler both compensate for the class counts."""
        return double_balancing_warnings(self.loss, self.sampler, self.allow_double_balancing)

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the components once.

        Raises:
            InputError: If the head does not fit the loss, or cannot start from class means.
        """
        after = self.head or head
        refuse_head(self.loss, after)
        if self.head_start == "class_means" and after.name != "CosineHead":
            raise InputError(f'`head_start` "class_means" needs a CosineHead, got a {after.name}; set `head`')
        step = self._step(model, data)
        mixing = None if self.mixing is None else self.mixing.build(mixings, data.class_counts)
        sampler, training = self._streams(step, data.train.targets)
        if shape_of_epoch(training, sampler)[0] == 1:
            _check_batch_of_one(model, data.train.images)

        def run(model: Classifier, context: Context) -> Classifier:
            if context.saved is None:  # otherwise the checkpoint has brought the head and the adapter
                self._start(model, data, context)
            train(step, data.train, sampler, training, context, scorer(data, context), mixing)
            if self.adapter is not None:
                model.finish_adapter()
            return model

        return PreparedStage(after, run)

    def _start(self, model: Classifier, data: Dataset, context: Context) -> None:
        """Replace the head and insert the adapter, if the stage has them."""
        if self.head is not None:
            head = fresh_head(self.head, model, len(data.class_names), context.seed, context.stage)
            model.replace_head(self.head, head)
        if self.head_start == "class_means" and isinstance(model.head, CosineHead):
            features = features_of(model, data, "train", context)
            model.head.start_from_means(features.embeddings_ND, features.targets_N)
        if self.adapter is not None:
            model.insert_adapter(self.adapter, context.seed, context.stage)

    def _step(self, model: Classifier, data: Dataset) -> Step:
        loss = build_loss(self.loss, data.class_counts)
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
        """Return the sampler and the settings; two streams double the batch."""
        requested = [part.stream for part in (step.transfer, step.embedding_loss) if part is not None and part.stream]
        if not requested:
            return build_sampler(self.sampler, targets_N), self.training
        streams = {"first": self.sampler.to_mapping(), "second": requested[0].to_mapping()}
        sampler = Component("TwoStreamSampler", {"num_samples": 2 * len(targets_N), **streams})
        unit = self.training.epoch_unit
        doubled = replace(self.training, batch_size=2 * self.training.batch_size, epoch_unit=unit and 2 * unit)
        return sampler.build(samplers, targets_N), doubled


def _check_batch_of_one(model: Classifier, images: Images) -> None:
    """Refuse batches of one image for a model with batch normalization of 1 x 1 maps, which have no variance.

    Raises:
        InputError: If the model cannot train on single images.
    """
    trial = copy.deepcopy(model).train()
    (pixels_1CHW,) = images.batches(torch.tensor([[0]]), None)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            trial(pixels_1CHW)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"`batch_size` must be >= 2 for this backbone on images of {images.size} pixels, got 1; its batch "
            "normalization has no variance over a single value"
        ) from error
