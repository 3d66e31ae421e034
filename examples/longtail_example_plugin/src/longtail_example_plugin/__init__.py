"""Example plug-in: a loss, its recipe, a plan, and a data set with a reader of its own."""

from longtail_example_plugin.data import DATASETS
from longtail_example_plugin.loss import SqrtBalancedSoftmax

__all__ = ["DATASETS", "SqrtBalancedSoftmax"]
