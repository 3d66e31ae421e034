"""Training end to end: a sampler, an augmentation, a way of mixing, a loss."""

from dataclasses import dataclass, field

import longtail.losses as losses
import longtail.mixing as mixings
import longtail.samplers as samplers
from longtail.config import Component, TrainingConfig
from longtail.data.dataset import Dataset
from longtail.models.classifier import Classifier
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
        training: epochs, batch size, augmentation, optimizer, schedule, precision.
        mixing: class of `longtail.mixing`, built with the class counts; None mixes no images.
        balance_twice: a balanced loss under a balanced sampler is meant, so nobody warns.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    mixing: Component | None = None
    balance_twice: bool = False

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)
        if self.mixing is not None:
            self.mixing.check(mixings)

    def check(self, data: Dataset, head: Component) -> Component:
        """The head stays; a loss that takes cosines needs a cosine head."""
        del data
        refuse_head(self.loss, head)
        return head

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train `model` in place and give it back."""
        loss = self.loss.build(losses, data.class_counts)
        sampler = self.sampler.build(samplers, data.train.targets)
        mixing = None if self.mixing is None else self.mixing.build(mixings, data.class_counts)
        train(Step(model, loss), data.train, sampler, self.training, context, scorer(data, context), mixing)
        return model
