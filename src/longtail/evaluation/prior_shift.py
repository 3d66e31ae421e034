"""Class frequencies of unlabeled images, and the confidence below which to abstain.

A classifier that was trained under one class prior is used under another one. If only the prior differs (label shift),
the new prior can be estimated from unlabeled images, and the logits are shifted to it with `adjust_to_prior`.

Shapes: N = unlabeled examples, M = held-out labeled examples, C = classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.evaluation.checks import Array, as_tensor, checked_labels, checked_logits
from longtail.evaluation.metrics import confusion_matrix
from longtail.evaluation.scores import Prior, checked_prior
from longtail.ranges import check_number


def estimate_prior_em(
    logits: Array, model_prior: Prior, *, max_iterations: int = 1000, tolerance: float = 1e-8
) -> Tensor:
    """Estimate the class prior of unlabeled examples by expectation maximization.

    Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural Computation 2002,
    Eq. 2.9. The estimate is the maximum likelihood solution if the model is calibrated under its own prior. An
    overconfident model gives an estimate that is too extreme.

    Args:
        logits: Logits of the unlabeled examples, shape (N, C).
        model_prior: Label distribution that the softmax of the model assumes, shape (C,): the training prior for plain
            cross-entropy, uniform for Balanced Softmax.
        max_iterations: Largest number of iterations.
        tolerance: Largest change of a share at which the iteration stops.

    Returns:
        Share of each class, shape (C,), float64. A class without model prior has share 0.

    Raises:
        InputError: If the logits or the prior are invalid.

    Example:
        >>> logits = torch.tensor([[9.0, 0.0]] * 1 + [[0.0, 9.0]] * 3)
        >>> estimate_prior_em(logits, [0.5, 0.5])
        tensor([0.2499, 0.7501], dtype=torch.float64)
    """
    check_number("max_iterations", max_iterations, integer=True, at_least=1)
    check_number("tolerance", tolerance, above=0)
    logits_NC = _logits(logits)
    model_C = checked_prior(model_prior, logits_NC.shape[1], "model prior")
    likelihood_NC = logits_NC.double().softmax(dim=1) / torch.where(model_C > 0, model_C, torch.inf)
    prior_C = model_C
    for _ in range(max_iterations):
        joint_NC = likelihood_NC * prior_C
        updated_C = (joint_NC / joint_NC.sum(dim=1, keepdim=True)).mean(dim=0)
        change, prior_C = float((updated_C - prior_C).abs().max()), updated_C
        if change <= tolerance:
            break
    return prior_C


def estimate_prior_bbse(logits: Array, held_out_logits: Array, held_out_targets: Array) -> Tensor:
    """Estimate the class prior of unlabeled examples from the confusions on held-out ones.

    Lipton et al., "Detecting and Correcting for Label Shift with Black Box Predictors", ICML 2018, section 4. Solves
    P(predicted = i | class = j) q_j = P_new(predicted = i) for q by non-negative least squares. The model need not be
    calibrated. The held-out examples may have any class frequencies.

    Args:
        logits: Logits of the unlabeled examples, shape (N, C).
        held_out_logits: Logits of held-out examples, shape (M, C).
        held_out_targets: Labels of the held-out examples in [0, C), shape (M,). A class without an example cannot be
            estimated and gets share 0.

    Returns:
        Share of each class, shape (C,), float64.

    Raises:
        InputError: If the logits or labels are invalid, or the confusions do not determine any share.

    Example:
        >>> held_out, targets = torch.eye(2).repeat(4, 1), torch.tensor([0, 1, 0, 1, 0, 1, 1, 1])
        >>> estimate_prior_bbse(torch.eye(2)[[0, 1, 1, 1]], held_out, targets)
        tensor([0.0625, 0.9375], dtype=torch.float64)
    """
    logits_NC = _logits(logits)
    num_classes = logits_NC.shape[1]
    targets_M = checked_labels(held_out_targets, num_classes, "held-out targets")
    held_out_MC = checked_logits(held_out_logits, len(targets_M), num_classes)
    confusion_CC = confusion_matrix(held_out_MC.argmax(dim=1).cpu(), targets_M, num_classes).double()
    given_class_CC = (confusion_CC / confusion_CC.sum(dim=1, keepdim=True).clamp(min=1)).T
    predicted_C = torch.bincount(logits_NC.argmax(dim=1), minlength=num_classes).double() / len(logits_NC)
    from scipy.optimize import nnls  # takes a fifth as long to import as torch

    shares_C = torch.from_numpy(np.asarray(nnls(given_class_CC.numpy(), predicted_C.numpy())[0]))
    if not float(shares_C.sum()) > 0:
        raise InputError(
            "the classes predicted for the unlabeled examples never occur among the held-out predictions, so no share "
            "can be estimated; use more held-out examples, or `estimate_prior_em`"
        )
    return shares_C / shares_C.sum()


@dataclass(frozen=True)
class Abstention:
    """A confidence threshold and what it achieves on the held-out examples.

    Args:
        threshold: Examples with a lower largest probability get no answer. Above 1 if no threshold reaches the risk.
        coverage: Share of the held-out examples that are answered.
        risk: Share of wrong answers among them. NaN if none is answered.
    """

    threshold: float
    coverage: float
    risk: float


def abstention_threshold(probabilities: Array, targets: Array, risk: float) -> Abstention:
    """Return the lowest confidence threshold at which the share of wrong answers is at most `risk`.

    Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017, without the confidence
    bound: the risk is the one observed on the held-out examples.

    Args:
        probabilities: Probabilities of held-out examples, shape (M, C).
        targets: Labels of the held-out examples in [0, C), shape (M,).
        risk: Largest accepted share of wrong answers, in [0, 1].

    Raises:
        InputError: If the shapes differ or `risk` is out of range.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.75, 0.25], [0.6, 0.4], [0.45, 0.55]])
        >>> abstention_threshold(probabilities, torch.tensor([0, 0, 1, 1]), risk=0.0)
        Abstention(threshold=0.75, coverage=0.5, risk=0.0)
    """
    check_number("risk", risk, at_least=0, at_most=1)
    probabilities_MC = as_tensor(probabilities, "probabilities").detach().cpu()
    targets_M = checked_labels(targets, probabilities_MC.shape[-1], "targets")
    if probabilities_MC.shape != (len(targets_M), probabilities_MC.shape[-1]):
        raise InputError(f"probabilities must have shape ({len(targets_M)}, C), got {tuple(probabilities_MC.shape)}")
    confidence_M, predicted_M = probabilities_MC.max(dim=1)
    order_M = confidence_M.argsort(descending=True)
    wrong_M = (predicted_M != targets_M)[order_M].double().cumsum(0)
    risks_M = wrong_M / torch.arange(1, len(order_M) + 1)
    sorted_M = confidence_M[order_M]
    last_of_ties_M = torch.cat([sorted_M[1:] < sorted_M[:-1], torch.ones(1, dtype=torch.bool)])
    allowed = torch.nonzero((risks_M <= risk) & last_of_ties_M).flatten()
    if len(allowed) == 0:
        return Abstention(float(np.nextafter(1.0, 2.0)), 0.0, float("nan"))
    best = int(allowed[-1])
    return Abstention(float(sorted_M[best]), (best + 1) / len(order_M), float(risks_M[best]))


def _logits(logits: Array) -> Tensor:
    logits_NC = as_tensor(logits, "logits")
    if logits_NC.ndim != 2 or len(logits_NC) == 0:
        raise InputError(f"logits must have shape (N, C) with at least one example, got {tuple(logits_NC.shape)}")
    return checked_logits(logits_NC, *logits_NC.shape).cpu()
