"""Decoupled training: the backbone is frozen, and the head is trained with another loss or sampler.

Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020,
https://arxiv.org/abs/1910.09217. With a new head and class-balanced sampling this is cRT, with `LWSHead` LWS, with
`DisAlignHead` DisAlign, with `MaxNormHead` the second stage of weight balancing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

import longtail.augment as mixings
import longtail.losses as losses
import longtail.samplers as samplers
from longtail.component import Component
from longtail.config.schema import TrainingConfig
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.models.classifier import LINEAR, Classifier, fresh_head, head_class
from longtail.models.heads import FoldingHead
from longtail.stages.base import (
    PreparedStage,
    Stage,
    balances,
    build_loss,
    build_sampler,
    double_balancing_warnings,
    feature_scorer,
    refuse_head,
    scorer,
)
from longtail.training.context import Context
from longtail.training.features import features_of
from longtail.training.loop import train
from longtail.training.step import Step


@dataclass(frozen=True)
class Retrain(Stage):
    """Training of the head alone.

    If nothing can change the output of the backbone (no augmentation or mixing, batch norm frozen), its features are
    computed once, and the stage takes seconds.

    Args:
        loss: Class of `longtail.losses`, built with the class counts.
        sampler: Class of `longtail.samplers`, built with the labels.
        training: Epochs, batch size, augmentation, optimizer, schedule and precision.
        head: Head of `longtail.models`. None keeps the kind of the present head.
        initialize: "new" starts from random weights, "keep" from the weights of the present head.
        batch_norm: "update" lets the running statistics of the backbone follow the sampler's images, as published code
            does. "freeze" keeps them.
        mixing: Class of `longtail.augment` that mixes images, built with the class counts. None mixes no images.
        allow_double_balancing: Suppress the warning about combining a balanced loss with a balanced sampler.

    Raises:
        InputError: For an unknown component or option, or a head that can only correct the layer of an earlier stage.
    """

    loss: Component = field(default_factory=lambda: Component("CrossEntropy"))
    sampler: Component = field(default_factory=lambda: Component("InstanceSampler"))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    head: Component | None = None
    initialize: Literal["new", "keep"] = "new"
    batch_norm: Literal["update", "freeze"] = "freeze"
    mixing: Component | None = None
    allow_double_balancing: bool = False

    def __post_init__(self) -> None:
        self.loss.check(losses)
        self.sampler.check(samplers)
        if self.mixing is not None:
            self.mixing.check(mixings)
        if self.head is not None:
            head_class(self.head)
        if self.initialize == "new" and self.head is not None and self.head.name in ("DisAlignHead", "LWSHead"):
            raise InputError(
                f'`initialize` must be "keep" for a {self.head.name}, got "new": it corrects the layer of an earlier '
                "stage"
            )

    def training_settings(self) -> TrainingConfig:
        """Return the training settings."""
        return self.training

    def image_settings(self) -> dict[str, str]:
        """Return the settings in use that need images rather than features, each with the reason."""
        return {} if self.mixing is None else {"mixing": "mixes images"}

    def balances(self) -> bool:
        """Return whether the loss or the sampler compensates for the class counts."""
        return balances(self.loss, self.sampler)

    def warnings(self) -> list[str]:
        """Return a warning if loss and sampler both compensate for the class counts."""
        return double_balancing_warnings(self.loss, self.sampler, self.allow_double_balancing)

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the components once.

        Raises:
            InputError: If the head is to be kept and cannot become the requested one.
        """
        after = self._head_after(head)
        loss = build_loss(self.loss, data.class_counts)
        sampler = build_sampler(self.sampler, data.train.targets)
        mixing = None if self.mixing is None else self.mixing.build(mixings, data.class_counts)
        cached = self.training.augment == "none" and self.batch_norm == "freeze" and mixing is None

        def run(model: Classifier, context: Context) -> Classifier:
            if context.saved is None:  # otherwise the checkpoint has brought the head
                self._place_head(model, len(data.class_names), context)
            with frozen(model.backbone):
                if cached:
                    step, part = Step(model, loss, "skip"), features_of(model, data, "train", context).part()
                    train(step, part, sampler, self.training, context, feature_scorer(model, data, context))
                else:
                    step = Step(model, loss, "train" if self.batch_norm == "update" else "freeze")
                    train(step, data.train, sampler, self.training, context, scorer(data, context), mixing)
            if isinstance(model.head, FoldingHead):
                model.replace_head(LINEAR, model.head.folded())
            return model

        return PreparedStage(after, run)

    def _head_after(self, head: Component) -> Component:
        """Return the head that the stage leaves."""
        wanted = self.head or head
        refuse_head(self.loss, wanted)
        if self.initialize == "keep" and wanted != head and head != LINEAR:
            raise InputError(
                f"a {wanted.name} can start only from the weights of a LinearHead, not from those of a {head.name}; "
                'train the stage before with a LinearHead, or set `initialize` to "new"'
            )
        cls = head_class(wanted)
        return LINEAR if isinstance(cls, type) and issubclass(cls, FoldingHead) else wanted

    def _place_head(self, model: Classifier, num_classes: int, context: Context) -> None:
        component = self.head or model.head_component
        if self.initialize == "keep" and component == model.head_component:
            return
        head = fresh_head(component, model, num_classes, context.seed, context.stage)
        if self.initialize == "keep":  # the linear layer; other parameters of the new head start as they always do
            head.load_state_dict(model.head.state_dict(), strict=False)
        model.replace_head(component, head)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Freeze the parameters of a module within the context.

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
