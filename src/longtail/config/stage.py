"""The contract of a stage: a recipe is a list of stages, and a stage turns a model into a better-balanced model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longtail.component import Component
from longtail.config.training import TrainingConfig

if TYPE_CHECKING:
    from longtail.data.dataset import Dataset
    from longtail.models.classifier import Classifier
    from longtail.training.context import Context


@dataclass(frozen=True)
class PreparedStage:
    """A stage whose components are built and checked against the data, ready to run.

    Args:
        head: Head of the model after the stage, by name and options.
        run: Trains or corrects the model and returns it.
    """

    head: Component
    run: Callable[[Classifier, Context], Classifier]


class Stage(ABC):
    """A step of a recipe: `(model, data, context) -> model`.

    A subclass is a frozen dataclass. Its fields are the options that a recipe may set; values that need no data are
    checked in `__post_init__`. All stages of a run are prepared before the first one runs, so that an invalid option
    fails before the run folder is created.
    """

    @abstractmethod
    def prepare(self, model: Classifier, data: Dataset, head: Component) -> PreparedStage:
        """Build the components of the stage, once.

        Args:
            model: Model that the stage will receive. Its head may still change in earlier stages.
            data: Training, validation and test parts. A stage never reads the test part for a choice.
            head: Head that the model will have when the stage starts.

        Raises:
            InputError: If the stage cannot run on this model or these data.
        """

    def __call__(self, model: Classifier, data: Dataset, context: Context) -> Classifier:
        """Prepare the stage and run it.

        Args:
            model: Model on the context's device. It may be changed in place.
            data: Training, validation and test parts.
            context: Seed, position in the run, checkpoint store and log.

        Returns:
            The trained or corrected model.
        """
        return self.prepare(model, data, model.head_component).run(model, context)

    def training_settings(self) -> TrainingConfig | None:
        """Return the training settings, or None for a stage that does not train by gradient descent."""
        return None

    def image_settings(self) -> dict[str, str]:
        """Return the settings in use that need images rather than features, each with the reason."""
        return {}

    def balances(self) -> bool:
        """Return whether the model predicts for evenly frequent classes after this stage, not for those of training."""
        return False

    def warnings(self) -> list[str]:
        """Return warnings about the combination of settings, without the position of the stage."""
        return []
