"""Validation of labels and logits.

Shapes: N = examples, C = classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from longtail.errors import InputError

Array = Tensor | npt.NDArray[Any] | Sequence[Any]


def example(index: int) -> str:
    """Return the name of an example in messages, for input without line numbers."""
    return f"example {index} (counted from 0)"


def checked_labels(labels: Array, num_classes: int, what: str, place: Callable[[int], str] = example) -> Tensor:
    """Convert labels to int64 on the CPU and check them.

    Args:
        labels: Integers in [0, C), shape (N,).
        num_classes: Number of classes C.
        what: Name of the labels in messages, e.g. "targets".
        place: Function from the index of an example to its name in messages.

    Raises:
        InputError: For another shape or type, no example, or a label out of range.

    Example:
        >>> checked_labels(torch.tensor([0, 2]), 2, "targets")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: example 1 (counted from 0): targets of 2 classes must be in 0 to 1, got 2
    """
    labels_N = as_tensor(labels, what).detach().cpu()
    if labels_N.ndim != 1:
        raise InputError(f"{what} must have shape (N,), got {tuple(labels_N.shape)}; for one-hot rows use argmax(1)")
    if len(labels_N) == 0:
        raise InputError(f"there is nothing to evaluate: the {what} are empty")
    if labels_N.dtype == torch.bool or labels_N.is_floating_point() or labels_N.is_complex():
        raise InputError(f"{what} must be integers, got {labels_N.dtype}; convert them to int64")
    labels_N = labels_N.long()
    outside_N = (labels_N < 0) | (labels_N >= num_classes)
    if outside_N.any():
        index = int(outside_N.nonzero()[0])
        raise InputError(
            f"{place(index)}: {what} of {num_classes} classes must be in 0 to {num_classes - 1}, got "
            f"{int(labels_N[index])}"
        )
    return labels_N


def checked_logits(logits: Array, num_examples: int, num_classes: int, place: Callable[[int], str] = example) -> Tensor:
    """Convert logits to float32 (float64 stays), on their device, and check them.

    Args:
        logits: Logits, any float type, shape (N, C). -inf excludes a class.
        num_examples: Number of examples N.
        num_classes: Number of classes C.
        place: Function from the index of an example to its name in messages.

    Raises:
        InputError: For another shape or type, NaN, +inf, or a row of -inf only.
    """
    logits_NC = as_tensor(logits, "logits").detach()
    if logits_NC.shape != (num_examples, num_classes):
        raise InputError(
            f"logits must have shape ({num_examples}, {num_classes}), one row per target and one column per class "
            f"count, got {tuple(logits_NC.shape)}"
        )
    if not logits_NC.is_floating_point():
        raise InputError(f"logits must be floating point, got {logits_NC.dtype}; for predicted labels use shape (N,)")
    if logits_NC.dtype != torch.float64:
        logits_NC = logits_NC.float()
    # the maximum of a row is NaN or +inf if any logit is, and -inf only if all are
    broken_N = ~logits_NC.amax(1).isfinite()
    if broken_N.any():
        index = int(broken_N.nonzero()[0])
        raise InputError(
            f"{place(index)}: logits must not be NaN, +inf or missing, and not all -inf; {int(broken_N.sum())} of "
            f"{num_examples} examples violate this"
        )
    return logits_NC


def check_lengths(predicted_N: Tensor, targets_N: Tensor) -> None:
    """Check that there is one predicted label per target.

    Args:
        predicted_N: Predicted labels, shape (N,).
        targets_N: True labels, shape (N,).

    Raises:
        InputError: If the lengths differ.
    """
    if len(predicted_N) != len(targets_N):
        raise InputError(f"there are {len(predicted_N)} predicted labels for {len(targets_N)} targets; pass one each")


def as_tensor(values: Array, what: str) -> Tensor:
    """Convert an array, list or tensor to a tensor.

    Args:
        values: Numbers.
        what: Their name in messages.

    Raises:
        InputError: If they are not numbers, or the list is ragged.
    """
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} must be a tensor, array or list of numbers: {error}") from error
