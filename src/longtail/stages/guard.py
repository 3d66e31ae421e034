"""A warning against the commonest mistake: balancing twice, by the sampler and by the loss."""

import types
from collections.abc import Sequence

from longtail import losses, samplers
from longtail.component import Component, find_class
from longtail.errors import InputError


def balanced_twice(stages: Sequence[Component]) -> list[str]:
    """A sentence for each stage that balances both by its sampler and by its loss, and does not say that it means to.

    Args:
        stages: of a run, their options filled in.

    Example:
        >>> twice = {"loss": "BalancedSoftmax", "sampler": "ClassBalancedSampler"}
        >>> len(balanced_twice([Component("Train", twice)]))
        1
        >>> balanced_twice([Component("Train", {**twice, "balance_twice": True})])
        []
    """
    return [
        _reason(index, _name(stage.options["loss"]), _name(stage.options["sampler"]))
        for index, stage in enumerate(stages)
        if _balances(stage.options.get("loss"), losses)
        and _balances(stage.options.get("sampler"), samplers)
        and not stage.options.get("balance_twice", False)
    ]


def _reason(index: int, loss: str, sampler: str) -> str:
    return (
        f"stage {index + 1} balances twice: {loss} makes up for the class counts, and {sampler} has already evened "
        "them out. Under Balanced Softmax a class then weighs as 1 / n^2 near convergence (Ren et al., 2020, section "
        "A.5), and rare classes take over: with a class-aware sampler left in, a user of BALMS got 35.1 on Places-LT, "
        "where 38.7 is published (jiawei-ren/BalancedMetaSoftmax-Classification, issue 11). Take sampler: "
        "InstanceSampler, or loss: CrossEntropy, or say balance_twice: true in the stage if it is meant"
    )


def _balances(component: object, package: types.ModuleType) -> bool:
    return component is not None and getattr(find_class(_name(component), package), "balances", False)


def _name(value: object) -> str:
    """Name of a component, as YAML may write it."""
    if isinstance(value, Component):
        return value.name
    if isinstance(value, dict):
        return str(value["name"])
    return str(value)


def refuse_head(loss: Component, head: Component) -> None:
    """A loss that takes cosines and scales them itself needs a cosine head that does not.

    Raises:
        InputError: if the head is another.
    """
    wanted = Component("CosineHead", {"scale": 1.0})
    if getattr(find_class(loss.name, losses), "expects_cosines", False) and head != wanted:
        given = f"{head.name} {dict(head.options) or ''}".strip()
        raise InputError(
            f"{loss.name} takes cosines and scales them itself, but the model has a {given}; give it a "
            "CosineHead of scale 1: --set model.head.name=CosineHead model.head.scale=1.0"
        )
