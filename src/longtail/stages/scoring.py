"""How a stage sees where it stands after each epoch: top-1 and balanced accuracy of the watched part."""

from dataclasses import dataclass

from torch import Tensor, nn

from longtail.data.counts import ClassCounts
from longtail.data.dataset import Dataset, Part
from longtail.evaluation import evaluate_logits
from longtail.models.classifier import Classifier
from longtail.training.context import Context
from longtail.training.features import Features, features_of
from longtail.training.predict import predict


@dataclass(frozen=True, eq=False)
class Scorer:
    """Scores a model on the images of a part.

    Args:
        part: what is scored on.
        counts: training images per class.
    """

    part: Part
    counts: ClassCounts

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Top-1 and balanced accuracy, in percent."""
        assert isinstance(model, Classifier)
        logits, _ = predict(model, self.part.images)
        return _numbers(logits, self.part.targets, self.counts)


@dataclass(frozen=True, eq=False)
class FeatureScorer:
    """Scores a model's head on the features of a part.

    Args:
        features: what is scored on.
        counts: training images per class.
    """

    features: Features
    counts: ClassCounts

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Top-1 and balanced accuracy, in percent."""
        assert isinstance(model, Classifier)
        logits = model.head(self.features.embeddings_ND).detach()
        return _numbers(logits, self.features.targets_N, self.counts)


def scorer(data: Dataset, context: Context) -> Scorer | None:
    """Scores a model on the images of the watched part; None where there is nothing to watch."""
    part = {"val": data.val, "test": data.test}.get(context.watch or "")
    return None if part is None else Scorer(part, data.class_counts)


def feature_scorer(model: Classifier, data: Dataset, context: Context) -> FeatureScorer | None:
    """The same for a stage that trains on features."""
    if context.watch == "val" and data.val is not None:
        return FeatureScorer(features_of(model, data, "val", context), data.class_counts)
    if context.watch == "test":
        return FeatureScorer(features_of(model, data, "test", context), data.class_counts)
    return None


def _numbers(logits_NC: Tensor, targets_N: Tensor, counts: ClassCounts) -> dict[str, float]:
    scores = evaluate_logits(logits_NC.cpu(), targets_N, counts)
    return {"top1": scores.top1, "balanced": scores.balanced}
