"""Stages of a recipe: each turns a model into a better-balanced model."""

import sys

from longtail.config import Component, find_class, from_mapping
from longtail.stages.base import Stage
from longtail.stages.train import Train

__all__ = [
    "Train",
]


def build(component: Component) -> Stage:
    """A stage from its name and options.

    Raises:
        InputError: for an unknown stage or option, with the nearest ones.
    """
    stage: Stage = from_mapping(find_class(component.name, sys.modules[__name__]), component.options, component.name)
    return stage
