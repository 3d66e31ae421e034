"""Post-hoc correction of a trained model: nothing is trained, the head is replaced."""

from dataclasses import dataclass, field
from typing import cast

import torch

import longtail.posthoc as posthoc
from longtail.component import Component
from longtail.data.dataset import Dataset
from longtail.errors import InputError, unknown_name
from longtail.models.classifier import LINEAR, Classifier
from longtail.models.heads import LinearHead
from longtail.stages.base import PreparedStage, Stage
from longtail.training.context import Context
from longtail.training.features import Features, features_of


@dataclass(frozen=True)
class Adjust(Stage):
    """Correction of the head after training.

    Args:
        method: Class of `longtail.posthoc`. Without a fixed strength it chooses the strength by balanced accuracy on
            the held-out part of the training images. The choice is written to the result under "chosen".

    Raises:
        InputError: For an unknown correction or option.
    """

    method: Component = field(default_factory=lambda: Component("LogitAdjustment"))

    def __post_init__(self) -> None:
        if "." not in self.method.name and self.method.name not in posthoc.CORRECTIONS:
            raise unknown_name("post-hoc correction", self.method.name, posthoc.CORRECTIONS)
        self.method.check(posthoc)

    def balances(self) -> bool:
        """Return True: every correction evens out the classes."""
        return True

    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the correction once.

        Raises:
            InputError: If a class without a training image is refused, a strength must be chosen and no images are
                held out, or the head is not linear.
        """
        correction: posthoc.PostHoc = self.method.build(posthoc)
        empty = int((data.class_counts.counts == 0).sum())
        if correction.needs_every_class and empty:
            raise InputError(
                f"{self.method.name} needs training images of every class, and {empty} classes have none; add images, "
                'set `empty_classes` to "drop", or use another method'
            )
        if correction.needs_holdout and data.val is None:
            raise InputError(
                f"{self.method.name} chooses its strength on held-out training images, and none are held out; set "
                f"`val_share` to 0.1, or a fixed strength in the recipe: method: {{name: {self.method.name}, tau: 1.0}}"
            )
        if correction.fits_on == "val" and head != LINEAR:
            raise InputError(
                f"{self.method.name} corrects the weights of a LinearHead, but the model will have a {head.name}; "
                "train it with a LinearHead"
            )

        def run(model: Classifier, context: Context) -> Classifier:
            if correction.fits_on == "train" or correction.needs_holdout:
                features = features_of(model, data, correction.fits_on, context)
            else:
                features = Features(torch.empty(0), torch.empty(0, dtype=torch.long))
            # a correction that is fitted on the training images ignores the head
            present = cast("LinearHead", model.head)
            correction.fit(features.embeddings_ND, features.targets_N, present, data.class_counts)
            model.replace_head(correction.component, correction.head)
            if correction.chosen:
                context.chosen[self.method.name] = correction.chosen
            return model

        return PreparedStage(correction.component, run)
