"""What the functions of this package ask of their input, and the messages when they do not get it.

Shapes: N = examples, C = classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from longtail.errors import InputError

Array = Tensor | npt.NDArray[Any]


def example(index: int) -> str:
    """How a message names an example that has no line in a file."""
    return f"example {index} (counted from 0)"


def checked_labels(labels: Array, num_classes: int, what: str, place: Callable[[int], str] = example) -> Tensor:
    """Labels as int64 on the CPU.

    Args:
        labels: whole numbers in [0, num_classes), shape (N,).
        num_classes: C.
        what: they are, in words: "targets", "predicted labels".
        place: turns the index of an example into the words by which a message names it.

    Raises:
        InputError: for another shape or type, no example at all, or a label out of range.

    Example:
        >>> checked_labels(torch.tensor([0, 2]), 2, "targets")
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: example 1 (counted from 0): 2 is out of range: the targets of 2 classes start at 0
        and end at 1
    """
    labels_N = as_tensor(labels, what).detach().cpu()
    if labels_N.ndim != 1:
        raise InputError(f"{what} must have shape (N,), not {tuple(labels_N.shape)}; of one-hot rows take argmax(1)")
    if labels_N.dtype == torch.bool or labels_N.is_floating_point() or labels_N.is_complex():
        raise InputError(f"{what} must be whole numbers (int64, say), not {labels_N.dtype}")
    if len(labels_N) == 0:
        raise InputError(f"there is nothing to evaluate: the {what} are empty")
    labels_N = labels_N.long()
    outside_N = (labels_N < 0) | (labels_N >= num_classes)
    if outside_N.any():
        index = int(outside_N.nonzero()[0])
        raise InputError(
            f"{place(index)}: {int(labels_N[index])} is out of range: the {what} of {num_classes} classes "
            f"start at 0 and end at {num_classes - 1}"
        )
    return labels_N


def checked_logits(logits: Array, num_examples: int, num_classes: int, place: Callable[[int], str] = example) -> Tensor:
    """Logits in float32 (or float64, where they came so), on the device they were on.

    Args:
        logits: any floating type, shape (N, C). -inf rules a class out.
        num_examples: N, from the targets.
        num_classes: C, from the class counts.
        place: turns the index of an example into the words by which a message names it.

    Raises:
        InputError: for another shape or type, NaN, +inf, or a row in which every class is ruled out.
    """
    logits_NC = as_tensor(logits, "logits").detach()
    if logits_NC.shape != (num_examples, num_classes):
        raise InputError(
            f"logits must have shape ({num_examples}, {num_classes}), one row per target and one column per class "
            f"count, not {tuple(logits_NC.shape)}"
        )
    if not logits_NC.is_floating_point():
        raise InputError(f"logits must be floating point, not {logits_NC.dtype}; use evaluate_predictions for labels")
    if logits_NC.dtype != torch.float64:
        logits_NC = logits_NC.float()
    # the maximum of a row carries a NaN or +inf along, and is -inf only where the whole row is
    broken_N = ~logits_NC.amax(1).isfinite()
    if broken_N.any():
        index = int(broken_N.nonzero()[0])
        raise InputError(
            f"{place(index)}: a logit is NaN, +inf or missing, or all are -inf, so there is no prediction; "
            f"{int(broken_N.sum())} of {num_examples} examples are like this"
        )
    return logits_NC


def check_lengths(predicted_N: Tensor, targets_N: Tensor) -> None:
    """Refuse predicted labels that are not one per target."""
    if len(predicted_N) != len(targets_N):
        raise InputError(f"there are {len(predicted_N)} predicted labels for {len(targets_N)} targets; give one each")


def as_tensor(values: Array | Sequence[float], what: str) -> Tensor:
    """A tensor, or an InputError where there can be none (texts, ragged lists)."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} must be a tensor or array of numbers: {error}") from error
