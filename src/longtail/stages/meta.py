"""Second stage of BALMS: the head learns under a balanced loss while the Meta Sampler learns the sample rates.

Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020, https://arxiv.org/abs/2007.10740.
As in the paper, the head and the Meta Sampler both start from new weights, without deferment. Where we differ from the
authors' code (`jiawei-ren/BalancedMetaSoftmax-Classification`): for ImageNet-LT and Places-LT it takes the meta batches
from the validation split; here they are always training images, as in the paper.
"""

from dataclasses import dataclass, field
from typing import Literal

from torch import nn

import longtail.losses as losses
import longtail.samplers as samplers
from longtail.component import Component
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset, Part
from longtail.errors import InputError
from longtail.models.classifier import Classifier, fresh_head
from longtail.ranges import check_ranges, ranged
from longtail.samplers.meta import MetaSampler
from longtail.stages.base import (
    PreparedStage,
    Stage,
    build_loss,
    feature_scorer,
    refuse_head,
    scorer,
)
from longtail.stages.retrain import frozen
from longtail.training.balms.bilevel import train_bilevel
from longtail.training.context import Context
from longtail.training.features import features_of
from longtail.training.loop import Score
from longtail.training.step import Step


@dataclass(frozen=True)
class RetrainMeta(Stage):
    """Training of the head alone, on images drawn at sample rates that are learned at the same time.

    The sample rates are written to each row of the log and, at the end, to the result.

    Args:
        loss: Class of `longtail.losses`, built with the class counts.
        sampler: `MetaSampler` or a subclass, built with the labels.
        training: Epochs, batch size, augmentation, optimizer, schedule and precision; without `clip_norm` and `ema`.
        initialize: "new" starts from random weights, "keep" from the weights of the present head.
        batch_norm: "update" lets the running statistics of the backbone follow the images, as the published code does.
            "freeze" keeps them; without augmentation the features are then computed once.
        meta_batch_size: Images of the class-balanced training batch on which the sample rates are evaluated.
        draw_ahead: Batches drawn with the same sample rates. A few, such as 16, keep the workers busy that read images
            from disk. A run stops and resumes at a multiple of it.

    Raises:
        InputError: For an unknown component or option, another sampler, or settings that the bilevel step lacks.
    """

    loss: Component = field(default_factory=lambda: Component("BalancedSoftmax"))
    sampler: Component = field(default_factory=lambda: Component("MetaSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    initialize: Literal["new", "keep"] = "new"
    batch_norm: Literal["update", "freeze"] = "freeze"
    meta_batch_size: int = ranged(512, at_least=1)
    draw_ahead: int = ranged(1, at_least=1)

    def __post_init__(self) -> None:
        check_ranges(self)
        self.loss.check(losses)
        if not issubclass(self.sampler.check(samplers), MetaSampler):
            raise InputError(
                f"`sampler` of RetrainMeta must be a MetaSampler, got {self.sampler.name}; use Retrain for others"
            )
        if self.training.clip_norm is not None or self.training.ema is not None:
            raise InputError(
                "RetrainMeta supports neither `clip_norm` nor `ema`; remove them from its training settings"
            )
        if self.training.optimizer.kind != "sgd" or self.training.optimizer.needs_groups:
            raise InputError(
                "RetrainMeta looks ahead along a step of SGD with one learning rate; set `training.optimizer` to lr, "
                "momentum, weight_decay and nesterov only"
            )

    def training_settings(self) -> TrainingConfig:
        """Return the training settings."""
        return self.training

    def balances(self) -> bool:
        """Return True: the sampler learns to even out the classes."""
        return True

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the components once. The head keeps its kind.

        Raises:
            InputError: If the closed form of the gradient of the sample rates does not cover the head.
        """
        refuse_head(self.loss, head)
        if head.name not in ("LinearHead", "CosineHead"):
            raise InputError(
                f"RetrainMeta trains a LinearHead or a CosineHead, but the model will have a {head.name}; put the "
                "stage that brings it after this one"
            )
        loss = build_loss(self.loss, data.class_counts)
        sampler: MetaSampler = self.sampler.build(samplers, data.train.targets)

        def run(model: Classifier, context: Context) -> Classifier:
            if context.saved is None and self.initialize == "new":  # otherwise the checkpoint has brought the head
                component = model.head_component
                fresh = fresh_head(component, model, len(data.class_names), context.seed, context.stage)
                model.replace_head(component, fresh)
            with frozen(model.backbone):
                step, part, score = self._task(model, loss, data, context)
                train_bilevel(
                    step,
                    part,
                    sampler,
                    self.training,
                    context,
                    score,
                    meta_batch_size=self.meta_batch_size,
                    draw_ahead=self.draw_ahead,
                )
            context.chosen["sample_rates"] = sampler.rates.tolist()
            return model

        return PreparedStage(head, run)

    def _task(
        self, model: Classifier, loss: nn.Module, data: Dataset, context: Context
    ) -> tuple[Step, Part, Score | None]:
        """Return the step, its data and the scorer."""
        if self.training.augment == "none" and self.batch_norm == "freeze":
            part = features_of(model, data, "train", context).part()
            return Step(model, loss, "skip"), part, feature_scorer(model, data, context)
        mode: Literal["train", "freeze"] = "train" if self.batch_norm == "update" else "freeze"
        return Step(model, loss, mode), data.train, scorer(data, context)
