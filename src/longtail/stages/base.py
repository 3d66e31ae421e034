"""The one idea: a recipe is a list of stages, and a stage turns a model into a better-balanced model."""

from abc import ABC, abstractmethod

from longtail.component import Component
from longtail.data.dataset import Dataset
from longtail.models.classifier import Classifier
from longtail.training.context import Context


class Stage(ABC):
    """`(model, data) -> model`. A subclass is a frozen dataclass; its fields are the options a recipe may give."""

    @abstractmethod
    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Turn a model into a better-balanced one.

        Args:
            model: on the context's device; may be changed in place.
            data: training part, held-out part, names. A stage never reads the test part for a choice.
            context: seed, place, checkpoints, log.
        """

    def check(self, data: Dataset, head: Component) -> Component:
        """Called for all stages before the first begins, so that none refuses its work after hours of training.

        Args:
            data: what it will be given.
            head: which the model will have when it is given it.

        Returns:
            The head that the model will have afterwards.

        Raises:
            InputError: if the stage could not be run.
        """
        del data
        return head
