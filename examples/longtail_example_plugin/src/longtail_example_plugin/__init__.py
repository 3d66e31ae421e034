"""Example plug-in: Balanced Softmax with the square root of the class counts as prior."""

from longtail_example_plugin.loss import SqrtBalancedSoftmax

__all__ = ["SqrtBalancedSoftmax"]
