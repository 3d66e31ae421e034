"""A post-hoc correction as the last word on a trained net: nothing is trained, the head is replaced."""

from dataclasses import dataclass, field
from typing import cast

import torch

import longtail.posthoc as posthoc
from longtail.component import Component
from longtail.data.dataset import Dataset
from longtail.errors import InputError, unknown_name
from longtail.models.classifier import LINEAR, Classifier
from longtail.models.heads import LinearHead
from longtail.stages.base import Stage
from longtail.training.context import Context
from longtail.training.features import Features, features_of


@dataclass(frozen=True)
class Adjust(Stage):
    """Correct the head after training.

    Args:
        method: class of `longtail.posthoc`. One that is given no strength chooses it by balanced accuracy on the
            held-out part of the training images; what it chose stands in the result under "chosen".
    """

    method: Component = field(default_factory=lambda: Component("LogitAdjustment"))

    def __post_init__(self) -> None:
        if "." not in self.method.name and self.method.name not in posthoc.CORRECTIONS:
            raise unknown_name("post-hoc correction", self.method.name, posthoc.CORRECTIONS)
        self.method.check(posthoc)

    def check(self, data: Dataset, head: Component) -> Component:
        """The head that the stage leaves.

        Raises:
            InputError: if something is to be chosen and nothing is held out, or the head is not a linear one.
        """
        correction = self._correction()
        if correction.needs_holdout and data.val is None:
            raise InputError(
                f"{self.method.name} chooses its strength on held-out training images, and none are held out; give "
                f"--val-share 0.1, or a fixed one in the recipe: method: {{name: {self.method.name}, tau: 1.0}}"
            )
        if correction.fits_on == "val" and head != LINEAR:
            raise InputError(
                f"{self.method.name} corrects the weights of a LinearHead, but the model will have a {head.name}; "
                "train it with a LinearHead"
            )
        return correction.component

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Replace the head of `model` and give the model back."""
        correction = self._correction()
        self.check(data, model.head_component)
        if correction.fits_on == "train" or correction.needs_holdout:
            features = features_of(model, data, correction.fits_on, context)
        else:
            features = Features(torch.empty(0), torch.empty(0, dtype=torch.long))
        # one that is fitted on the training images has no use for the head
        correction.fit(features.embeddings_ND, features.targets_N, cast("LinearHead", model.head), data.class_counts)
        model.replace_head(correction.component, correction.head)
        if correction.chosen:
            context.chosen[self.method.name] = correction.chosen
        return model

    def _correction(self) -> posthoc.PostHoc:
        correction: posthoc.PostHoc = self.method.build(posthoc)
        return correction
