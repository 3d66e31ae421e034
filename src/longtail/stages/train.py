"""Training end to end: a sampler, an augmentation, a loss."""

from dataclasses import dataclass, field

from torch import nn

import longtail.losses as losses
import longtail.samplers as samplers
from longtail.config import Component, TrainingConfig
from longtail.data.dataset import Dataset, Part
from longtail.evaluation import evaluate_logits
from longtail.models.classifier import Classifier
from longtail.stages.base import Stage
from longtail.training.context import Context
from longtail.training.loop import train
from longtail.training.predict import predict
from longtail.training.step import Step


@dataclass(frozen=True)
class Train(Stage):
    """Train the whole model.

    Args:
        loss: class of `longtail.losses`, built with the class counts.
        sampler: class of `longtail.samplers`, built with the labels.
        training: epochs, batch size, augmentation, optimizer, schedule, precision.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train `model` in place and give it back."""
        loss = self.loss.build(losses, data.class_counts)
        sampler = self.sampler.build(samplers, data.train.targets)
        train(Step(model, loss), data.train, sampler, self.training, context, _scorer(data, context))
        return model


class _Scorer:
    """Top-1 and balanced accuracy of the watched part after each epoch."""

    def __init__(self, part: Part, data: Dataset) -> None:
        self.part, self.counts = part, data.class_counts

    def __call__(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        logits, _ = predict(model, self.part.images)
        scores = evaluate_logits(logits, self.part.targets, self.counts)
        return {"top1": scores.top1, "balanced": scores.balanced}


def _scorer(data: Dataset, context: Context) -> _Scorer | None:
    part = {"val": data.val, "test": data.test}.get(context.watch or "")
    return None if part is None else _Scorer(part, data)
