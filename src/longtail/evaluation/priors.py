"""Test sets that are not balanced: the priors they may have, and what follows for examples and logits.

Forward and backward long-tailed test priors, and the shift of the logits towards a known test prior: Hong et al.,
"Disentangling Label Distribution for Long-tailed Visual Recognition" (LADE), CVPR 2021,
https://arxiv.org/abs/2012.00321; also the protocol of SADE, Zhang et al., NeurIPS 2022,
https://arxiv.org/abs/2107.09249. Both papers draw a test set of that prior (whole images of each class); we weigh the
examples of the test set at hand instead, so that none is thrown away and no draw adds noise.

Shapes: N = examples, C = classes.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from longtail.data.counts import ClassCounts, Countable
from longtail.errors import InputError, unknown_name
from longtail.evaluation.checks import Array, as_tensor

Direction = Literal["forward", "backward"]
Prior = ClassCounts | Array | Sequence[float]


def long_tailed_prior(classes: int | Countable, imbalance_factor: float, direction: Direction = "forward") -> Tensor:
    """A test prior that falls geometrically, along the training classes or against them.

    Args:
        classes: training images per class, whose order by size the prior follows (ties in class order); or the number
            of classes, when class 0 is the fullest and the last the rarest.
        imbalance_factor: largest over smallest share, >= 1; 1 is the uniform prior.
        direction: "forward" gives most to the class with most training images, "backward" to the rarest.

    Returns:
        Shares of shape (C,), float64, that sum to one.

    Raises:
        InputError: if there are fewer than two classes, the factor is below 1 or the direction unknown.

    Example:
        >>> long_tailed_prior([5, 500, 50], 4)
        tensor([0.1429, 0.5714, 0.2857], dtype=torch.float64)
        >>> long_tailed_prior(3, 4, "backward")
        tensor([0.1429, 0.2857, 0.5714], dtype=torch.float64)
    """
    if direction not in get_args(Direction):
        raise unknown_name("direction", direction, get_args(Direction))
    if not imbalance_factor >= 1:
        raise InputError(f"the imbalance factor of a prior must be at least 1, not {imbalance_factor}")
    if isinstance(classes, int):
        if classes < 2:
            raise InputError(f"a prior needs at least two classes, not {classes}")
        order_C = torch.arange(classes)
    else:
        order_C = ClassCounts(classes).counts.argsort(descending=True, stable=True)
    steps_C = torch.linspace(0, 1, len(order_C), dtype=torch.float64)
    shares_C = torch.empty_like(steps_C)
    shares_C[order_C] = imbalance_factor ** (-steps_C if direction == "forward" else steps_C)
    return shares_C / shares_C.sum()


def checked_prior(prior: Prior, num_classes: int, what: str = "prior") -> Tensor:
    """A prior as float64 on the CPU, made to sum to one, so that counts serve as well.

    Raises:
        InputError: for another shape than (C,), a share that is negative or not finite, or nothing but zeros.
    """
    values = prior.counts if isinstance(prior, ClassCounts) else as_tensor(prior, f"the {what}")
    prior_C = values.detach().cpu().double()
    if prior_C.shape != (num_classes,):
        raise InputError(f"the {what} needs one share for each of {num_classes} classes, not {tuple(prior_C.shape)}")
    if not bool((prior_C.isfinite() & (prior_C >= 0)).all()) or not prior_C.sum() > 0:
        raise InputError(f"the {what} must hold shares >= 0, not all zero, not {prior_C.tolist()[:10]}")
    return prior_C / prior_C.sum()


def example_weights(targets_N: Tensor, prior: Prior, num_classes: int) -> Tensor:
    """How much each example must count for the test set to have another prior.

    Args:
        targets_N: labels in [0, C), on the CPU.
        prior: wanted share of each class, shape (C,). What it gives to classes without a test image is spread over
            the others in proportion.
        num_classes: C.

    Returns:
        prior / share of the class in the test set, shape (N,), float64, with mean one.

    Raises:
        InputError: if the prior is no prior, or gives nothing to any class of the test set.

    Example:
        >>> example_weights(torch.tensor([0, 0, 0, 1]), [0.5, 0.5], 2)
        tensor([0.6667, 0.6667, 0.6667, 2.0000], dtype=torch.float64)
    """
    prior_C = checked_prior(prior, num_classes, "test prior")
    present_C = torch.bincount(targets_N, minlength=num_classes)
    kept_C = torch.where(present_C > 0, prior_C, 0.0)
    if not kept_C.sum() > 0:
        raise InputError("the test prior is zero for every class that has a test image; give those classes a share")
    per_example_C = kept_C / kept_C.sum() * len(targets_N) / present_C.clamp(min=1)
    return per_example_C[targets_N]


def adjust_to_prior(logits: Tensor, model_prior: Prior, test_prior: Prior) -> Tensor:
    """Shift logits to a known test prior: + log(test prior) - log(model's prior), the inference of LADE.

    Args:
        logits: shape (N, C), any floating type.
        model_prior: the label distribution that the model's softmax assumes, shape (C,): the training prior for plain
            cross-entropy, the uniform one for a model trained with Balanced Softmax or already adjusted.
        test_prior: of the test set, shape (C,); a class with share 0 is ruled out (-inf).

    Returns:
        Logits of the same shape, type and device.

    Raises:
        InputError: if one of the priors is none, or the model's is zero for a class that the test has.

    Example:
        >>> adjust_to_prior(torch.zeros(1, 2), [0.9, 0.1], [0.5, 0.5]).softmax(1)
        tensor([[0.1000, 0.9000]])
    """
    if logits.ndim != 2 or not logits.is_floating_point():
        raise InputError(f"logits must be floating point of shape (N, C), not {logits.dtype} {tuple(logits.shape)}")
    model_C = checked_prior(model_prior, logits.shape[1], "model's prior")
    test_C = checked_prior(test_prior, logits.shape[1], "test prior")
    impossible_C = (model_C == 0) & (test_C > 0)
    if impossible_C.any():
        raise InputError(
            f"the model's prior is 0 for class {int(impossible_C.nonzero()[0])}, which the test prior has: no finite "
            "shift reaches it; give it a small share"
        )
    shift_C = torch.where(test_C > 0, test_C.log() - model_C.log(), -torch.inf)
    return logits + shift_C.to(logits)
