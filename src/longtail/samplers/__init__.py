"""Samplers for class-imbalanced data: from the labels of the training images to the order in which they are seen."""

from longtail.samplers.base import InstanceSampler

# base class of custom components; not in `__all__`, which lists the names that recipes may use
from longtail.samplers.base import Sampler as Sampler
from longtail.samplers.by_class import (
    ClassBalancedSampler,
    ProgressivelyBalancedSampler,
    ReversedSampler,
    SquareRootSampler,
)
from longtail.samplers.class_aware import ClassAwareSampler
from longtail.samplers.meta import MetaSampler
from longtail.samplers.repeat_factor import RepeatFactorSampler
from longtail.samplers.two_stream import TwoStreamSampler

__all__ = [
    "ClassAwareSampler",
    "ClassBalancedSampler",
    "InstanceSampler",
    "MetaSampler",
    "ProgressivelyBalancedSampler",
    "RepeatFactorSampler",
    "ReversedSampler",
    "SquareRootSampler",
    "TwoStreamSampler",
]
