"""Decoupled training: the backbone stays as it is, and the head learns under another loss or sampler.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
https://arxiv.org/abs/1910.09217. With a new head and class-balanced sampling this is cRT, with `LWSHead` LWS, with
`DisAlignHead` DisAlign, with `MaxNormHead` the second stage of weight balancing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

import longtail.losses as losses
import longtail.samplers as samplers
from longtail.component import Component
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.models.classifier import LINEAR, Classifier, fresh_head, head_class
from longtail.models.heads import FoldingHead
from longtail.stages.base import Stage
from longtail.stages.guard import refuse_head
from longtail.stages.scoring import feature_scorer, scorer
from longtail.training.context import Context
from longtail.training.features import features_of
from longtail.training.loop import train
from longtail.training.step import Step


@dataclass(frozen=True)
class Retrain(Stage):
    """Train the head alone.

    Where nothing can change what the backbone makes of an image (no augmentation, batch norm frozen), its features are
    computed once, and the stage takes seconds.

    Args:
        loss: class of `longtail.losses`, built with the class counts.
        sampler: class of `longtail.samplers`, built with the labels.
        training: epochs, batch size, augmentation, optimizer, schedule, precision.
        head: class of `longtail.models`; None takes one like the present.
        initialize: "new" starts from random weights, "keep" from those of the present head.
        batch_norm: "update" lets the backbone's running statistics follow the sampler's images, as the published code
            of the field does; "freeze" keeps them.
        balance_twice: a balanced loss under a balanced sampler is meant, so nobody warns.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    head: Component | None = None
    initialize: Literal["new", "keep"] = "new"
    batch_norm: Literal["update", "freeze"] = "freeze"
    balance_twice: bool = False

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)
        if self.head is not None:
            head_class(self.head)
        if self.initialize == "new" and self.head is not None and self.head.name in ("DisAlignHead", "LWSHead"):
            raise InputError(f'a {self.head.name} corrects the layer of an earlier stage; say initialize: "keep"')

    def check(self, data: Dataset, head: Component) -> Component:
        """The head that the stage leaves.

        Raises:
            InputError: if the head is to be kept and can not become the one that is asked for.
        """
        del data
        wanted = self.head or head
        refuse_head(self.loss, wanted)
        if self.initialize == "keep" and wanted != head and head != LINEAR:
            raise InputError(
                f"a {wanted.name} can not start from the weights of a {head.name}, only from those of a LinearHead; "
                'train the stage before with a LinearHead, or say initialize: "new"'
            )
        cls = head_class(wanted)
        return LINEAR if isinstance(cls, type) and issubclass(cls, FoldingHead) else wanted

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Train the head of `model` in place and give the model back."""
        if context.saved is None:  # else the head has come with the checkpoint
            self.check(data, model.head_component)
            self._place_head(model, len(data.class_names), context)
        loss = self.loss.build(losses, data.class_counts)
        sampler = self.sampler.build(samplers, data.train.targets)
        with frozen(model.backbone):
            if self.training.augment == "none" and self.batch_norm == "freeze":
                step, part = Step(model, loss, "skip"), features_of(model, data, "train", context).part()
                train(step, part, sampler, self.training, context, feature_scorer(model, data, context))
            else:
                step = Step(model, loss, "train" if self.batch_norm == "update" else "freeze")
                train(step, data.train, sampler, self.training, context, scorer(data, context))
        if isinstance(model.head, FoldingHead):
            model.replace_head(LINEAR, model.head.folded())
        return model

    def _place_head(self, model: Classifier, num_classes: int, context: Context) -> None:
        component = self.head or model.head_component
        if self.initialize == "keep" and component == model.head_component:
            return
        head = fresh_head(component, model, num_classes, context.seed, context.stage)
        if self.initialize == "keep":  # the linear layer; what the new head has beside it starts as it always does
            head.load_state_dict(model.head.state_dict(), strict=False)
        model.replace_head(component, head)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, none of the module's parameters learns.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> with frozen(layer):
        ...     layer.weight.requires_grad
        False
        >>> layer.weight.requires_grad
        True
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
