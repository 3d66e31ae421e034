"""The second stage of BALMS: the head learns under a balanced loss while the Meta Sampler learns what to show it.

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, https://arxiv.org/abs/2007.10740.
As in the paper, the head starts anew and the Meta Sampler with it, without deferment. Where we differ from the authors'
code (`jiawei-ren/BalancedMetaSoftmax-Classification`): for ImageNet-LT and Places-LT it takes the meta batches from the
validation part; here they are always training images, as the paper says.
"""

from dataclasses import dataclass, field
from typing import Literal

import longtail.losses as losses
import longtail.samplers as samplers
from longtail.component import Component
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset, Part
from longtail.errors import InputError
from longtail.models.classifier import Classifier, fresh_head
from longtail.samplers.meta import MetaSampler
from longtail.stages.base import Stage
from longtail.stages.guard import refuse_head
from longtail.stages.retrain import frozen
from longtail.stages.scoring import FeatureScorer, Scorer, feature_scorer, scorer
from longtail.training.balms.bilevel import train_bilevel
from longtail.training.context import Context
from longtail.training.features import features_of
from longtail.training.step import Step


@dataclass(frozen=True)
class RetrainMeta(Stage):
    """Train the head alone, by images drawn at sample rates that are learnt on the way.

    The rates are written into each row of the log and, at the end, into the result.

    Args:
        loss: class of `longtail.losses`, built with the class counts.
        sampler: `MetaSampler` or a subclass, built with the labels.
        training: epochs, batch size, augmentation, optimizer, schedule, precision; without `clip_norm` and `ema`.
        initialize: "new" starts from random weights, "keep" from those of the present head.
        batch_norm: "update" lets the backbone's running statistics follow the images, as the published code does;
            "freeze" keeps them, and without augmentation the features are then computed once.
        meta_batch_size: images of the class-balanced training batch by which the rates are judged.
        draw_ahead: batches drawn by the same rates; a few, such as 16, keep the workers busy that read images from
            disk. A run stops, and goes on, at a multiple of it.
    """

    loss: Component = field(default_factory=lambda: Component("BalancedSoftmax"))
    sampler: Component = field(default_factory=lambda: Component("MetaSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    initialize: Literal["new", "keep"] = "new"
    batch_norm: Literal["update", "freeze"] = "freeze"
    meta_batch_size: int = 512
    draw_ahead: int = 1

    def __post_init__(self) -> None:
        self.loss.check(losses)
        if not issubclass(self.sampler.check(samplers), MetaSampler):
            raise InputError(
                f"RetrainMeta learns the rates of a MetaSampler, not of a {self.sampler.name}; use Retrain"
            )
        if self.training.clip_norm is not None or self.training.ema is not None:
            raise InputError("RetrainMeta takes plain steps: leave clip_norm and ema out of its training settings")
        if min(self.meta_batch_size, self.draw_ahead) < 1:
            raise InputError(
                f"meta_batch_size and draw_ahead must be at least 1, not {self.meta_batch_size} and {self.draw_ahead}"
            )

    def check(self, data: Dataset, head: Component) -> Component:
        """The head keeps its kind.

        Raises:
            InputError: if the closed form of the rates' gradient does not know the head.
        """
        del data
        refuse_head(self.loss, head)
        if head.name not in ("LinearHead", "CosineHead"):
            raise InputError(
                f"RetrainMeta learns a LinearHead or a CosineHead, and the model will have a {head.name}; put the "
                "stage that brings it after this one"
            )
        return head

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train the head of `model` in place and give the model back."""
        if context.saved is None and self.initialize == "new":  # else the head has come with the checkpoint
            component = model.head_component
            model.replace_head(
                component, fresh_head(component, model, len(data.class_names), context.seed, context.stage)
            )
        sampler = self.sampler.build(samplers, data.train.targets)
        sizes = {"meta_batch_size": self.meta_batch_size, "draw_ahead": self.draw_ahead}
        with frozen(model.backbone):
            step, part, score = self._task(model, data, context)
            train_bilevel(step, part, sampler, self.training, context, score, **sizes)
        context.chosen["sample_rates"] = sampler.rates.tolist()
        return model

    def _task(
        self, model: Classifier, data: Dataset, context: Context
    ) -> tuple[Step, Part, Scorer | FeatureScorer | None]:
        """What is trained, on what, and how it is scored."""
        loss = self.loss.build(losses, data.class_counts)
        if self.training.augment == "none" and self.batch_norm == "freeze":
            part = features_of(model, data, "train", context).part()
            return Step(model, loss, "skip"), part, feature_scorer(model, data, context)
        mode: Literal["train", "freeze"] = "train" if self.batch_norm == "update" else "freeze"
        return Step(model, loss, mode), data.train, scorer(data, context)
