"""What stages share: checks of how components fit together, and scoring during training."""

import types
from dataclasses import replace

from torch import Tensor, nn

from longtail import losses, samplers
from longtail._logging import progress_bar
from longtail.component import Component, find_class, keyword_options
from longtail.config.stage import PreparedStage, Stage
from longtail.data.counts import ClassCounts
from longtail.data.dataset import Dataset
from longtail.errors import InputError
from longtail.evaluation import evaluate_logits
from longtail.models.classifier import Classifier
from longtail.samplers import Sampler
from longtail.training.context import Context
from longtail.training.features import PartName, features_of
from longtail.training.loop import Score
from longtail.training.predict import predict

__all__ = [
    "PreparedStage",
    "Stage",
    "balances",
    "build_loss",
    "build_sampler",
    "double_balancing_warnings",
    "feature_scorer",
    "refuse_head",
    "scorer",
]


def balances(loss: Component, sampler: Component | None = None) -> bool:
    """Return whether a loss or a sampler compensates for the class counts.

    Args:
        loss: Loss of a stage.
        sampler: Sampler of the stage, if it has one.

    Example:
        >>> balances(Component("BalancedSoftmax")), balances(Component("CrossEntropy"))
        (True, False)
    """
    return _balances(loss, losses) or (sampler is not None and _balances(sampler, samplers))


def double_balancing_warnings(loss: Component, sampler: Component, allowed: bool) -> list[str]:
    """Return a warning if both the loss and the sampler compensate for the class counts.

    Args:
        loss: Loss of a stage.
        sampler: Sampler of the stage.
        allowed: Whether the user has allowed the combination.

    Example:
        >>> len(double_balancing_warnings(Component("BalancedSoftmax"), Component("ClassBalancedSampler"), False))
        1
    """
    if allowed or not (_balances(loss, losses) and _balances(sampler, samplers)):
        return []
    return [
        f"balances twice: {loss.name} compensates for the class counts, and {sampler.name} has already evened them "
        "out. Under Balanced Softmax a class then weighs 1 / n^2 near convergence (Ren et al., 2020, section A.5), and "
        "rare classes dominate: with a class-aware sampler left in, a user of BALMS reached 35.1 on Places-LT, where "
        "38.7 is published (jiawei-ren/BalancedMetaSoftmax-Classification, issue 11). Use sampler: InstanceSampler, or "
        "loss: CrossEntropy, or set `allow_double_balancing` to true in the stage"
    ]


def _balances(component: Component, package: types.ModuleType) -> bool:
    return bool(getattr(find_class(component.name, package), "balances", False))  # a third party's class may lack it


def build_loss(component: Component, counts: ClassCounts) -> nn.Module:
    """Return the loss of a stage.

    Training data have classes without an image only if the user keeps these. Their logits are then left out of the
    softmax, unless the loss has another option.

    Raises:
        InputError: If the loss cannot be built, or is not a module.
    """
    has_empty = bool((counts.counts == 0).any())
    if has_empty and "absent" in keyword_options(component.check(losses)) and "absent" not in component.options:
        component = replace(component, options={**component.options, "absent": "mask"})
    loss = component.build(losses, counts)
    if not isinstance(loss, nn.Module):
        raise InputError(f"`loss` must be a torch.nn.Module, got {component.name}, a {type(loss).__name__}")
    return loss


def build_sampler(component: Component, targets_N: Tensor) -> Sampler:
    """Return the sampler of a stage.

    Raises:
        InputError: If the sampler cannot be built, or does not derive from `longtail.samplers.Sampler`.
    """
    sampler = component.build(samplers, targets_N)
    if not isinstance(sampler, Sampler):
        raise InputError(f"`sampler` must derive from longtail.samplers.Sampler, got {component.name}")
    return sampler


def refuse_head(loss: Component, head: Component) -> None:
    """Refuse a head that does not fit a loss that expects unscaled cosine similarities.

    Raises:
        InputError: If the loss expects cosines and the head is not a `CosineHead` of scale 1.
    """
    fits = head.name == "CosineHead" and head.options.get("scale") == 1
    if getattr(find_class(loss.name, losses), "expects_cosines", False) and not fits:
        given = f"{head.name} {dict(head.options) or ''}".strip()
        raise InputError(
            f"{loss.name} expects cosine similarities and scales them itself, but the model has a {given}; use a "
            "CosineHead of scale 1: set `model.head.name` to CosineHead and `model.head.scale` to 1.0"
        )


def scorer(data: Dataset, context: Context) -> Score | None:
    """Return the score of a model on the images of the watched part, or None if no part is watched."""
    part = {"val": data.val, "test": data.test}.get(context.watch or "")
    if part is None:
        return None

    def score(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        with progress_bar("evaluating", len(part), images_per_unit=1) as bar:
            logits, _ = predict(model, part.images, bar.advance)
        return _accuracies(logits, part.targets, data.class_counts)

    return score


def feature_scorer(model: Classifier, data: Dataset, context: Context) -> Score | None:
    """Return the score of the head of a model on the features of the watched part, or None."""
    part: PartName = "test" if context.watch == "test" else "val"
    if context.watch != part or (part == "val" and data.val is None):
        return None
    features = features_of(model, data, part, context)

    def score(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        return _accuracies(model.head(features.embeddings_ND).detach(), features.targets_N, data.class_counts)

    return score


def _accuracies(logits_NC: Tensor, targets_N: Tensor, counts: ClassCounts) -> dict[str, float]:
    scores = evaluate_logits(logits_NC.cpu(), targets_N, counts)
    return {"top1": scores.top1, "balanced": scores.balanced}
