"""Samplers: from the labels of the training images to the order in which they are seen."""

from longtail.samplers.class_aware import ClassAwareSampler
from longtail.samplers.class_balanced import ClassBalancedSampler
from longtail.samplers.instance import InstanceSampler
from longtail.samplers.meta import MetaSampler
from longtail.samplers.progressive import ProgressivelyBalancedSampler
from longtail.samplers.repeat_factor import RepeatFactorSampler
from longtail.samplers.reversed import ReversedSampler
from longtail.samplers.square_root import SquareRootSampler
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
