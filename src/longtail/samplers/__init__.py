"""Samplers: from the labels of the training images to the order in which they are seen."""

from longtail.samplers.instance import InstanceSampler

__all__ = [
    "InstanceSampler",
]
