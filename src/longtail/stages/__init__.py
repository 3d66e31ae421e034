"""Stages of a recipe: each turns a model into a better-balanced model."""

import sys

from longtail.component import Component, find_class
from longtail.config.convert import from_mapping
from longtail.stages.adjust import Adjust
from longtail.stages.base import Stage
from longtail.stages.filter import Filter
from longtail.stages.meta import RetrainMeta
from longtail.stages.retrain import Retrain
from longtail.stages.risda import RetrainRISDA
from longtail.stages.train import Train

__all__ = [
    "Adjust",
    "Filter",
    "Retrain",
    "RetrainMeta",
    "RetrainRISDA",
    "Train",
]


def build(component: Component) -> Stage:
    """A stage from its name and options.

    Raises:
        InputError: for an unknown stage or option, with the nearest ones.
    """
    stage: Stage = from_mapping(find_class(component.name, sys.modules[__name__]), component.options, component.name)
    return stage
