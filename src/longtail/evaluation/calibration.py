"""Calibration: agreement of confidence and accuracy, overall and by group of classes.

Expected calibration error and reliability diagrams: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
https://arxiv.org/abs/1706.04599. Brier score: Brier, "Verification of Forecasts Expressed in Terms of Probability",
Monthly Weather Review 1950, summed over classes.

Shapes: N = examples, C = classes, K = bins.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from longtail.errors import InputError


@dataclass(frozen=True, eq=False)
class Reliability:
    """Examples binned by confidence, as in a reliability diagram. Three tensors of shape (K,), float64.

    Args:
        confidence: Mean confidence of each bin, in percent; NaN for an empty bin.
        accuracy: Accuracy of each bin, in percent; NaN for an empty bin.
        count: Sum of the weights of the examples in each bin.
    """

    confidence: Tensor
    accuracy: Tensor
    count: Tensor

    @property
    def ece(self) -> float | None:
        """Expected calibration error in percent: mean gap of accuracy and confidence; None without examples."""
        total = self.count.sum()
        if total == 0:
            return None
        gap_K = (self.accuracy - self.confidence).abs().nan_to_num(0.0)
        return float((gap_K * self.count).sum() / total)


def confidences(logits_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the predicted class and its probability.

    Args:
        logits_NC: Logits, any float type and device, shape (N, C).

    Returns:
        Confidences in [0, 1] (float64) and predicted labels (int64), each of shape (N,), on the CPU.

    Example:
        >>> confidences(torch.tensor([[0.0, 0.0], [-1.0, 1.0]]))
        (tensor([0.5000, 0.8808], dtype=torch.float64), tensor([0, 1]))
    """
    logits_NC = _at_least_float32(logits_NC)
    top_N, predicted_N = logits_NC.max(1)
    confidence_N = (top_N - logits_NC.logsumexp(1)).double().exp()
    # on the CPU, because weighted counting is not deterministic on an accelerator
    return confidence_N.cpu(), predicted_N.cpu()


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def reliability(
    confidence_N: Tensor, correct_N: Tensor, *, bins: int = 15, weights_N: Tensor | None = None
) -> Reliability:
    """Bin examples by confidence, in bins of equal width.

    Args:
        confidence_N: Confidence of each example in [0, 1], shape (N,).
        correct_N: Whether each prediction is correct, bool, shape (N,).
        bins: Number of bins K; default 15.
        weights_N: Weight of each example, shape (N,). None (default) weights them equally.

    Raises:
        InputError: If `bins` is not positive.

    Example:
        >>> reliability(torch.tensor([0.875, 0.875, 0.625]), torch.tensor([True, False, True])).ece
        37.5
    """
    if bins < 1:
        raise InputError(f"`bins` must be >= 1, got {bins}")
    confidence_N = confidence_N.double()
    weights_N = torch.ones_like(confidence_N) if weights_N is None else weights_N.double()
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    bin_N = torch.bucketize(confidence_N, edges)  # a bin includes its upper edge, not its lower edge
    count_K = torch.bincount(bin_N, weights_N, minlength=bins)
    return Reliability(
        confidence=100 * torch.bincount(bin_N, weights_N * confidence_N, minlength=bins) / count_K,
        accuracy=100 * torch.bincount(bin_N, weights_N * correct_N, minlength=bins) / count_K,
        count=count_K,
    )


def reliability_by_group(
    confidence_N: Tensor,
    correct_N: Tensor,
    targets_N: Tensor,
    groups: Mapping[str, Tensor],
    *,
    bins: int = 15,
    weights_N: Tensor | None = None,
) -> dict[str, Reliability]:
    """Compute `reliability` of all examples ("all") and of the examples of each group of true classes.

    Args:
        confidence_N: Confidence of each example in [0, 1], shape (N,).
        correct_N: Whether each prediction is correct, bool, shape (N,).
        targets_N: True labels in [0, C), shape (N,).
        groups: Masks of shape (C,) by name, as returned by `shot_groups`.
        bins: Number of bins K; default 15.
        weights_N: Weight of each example, shape (N,). None (default) weights them equally.

    Example:
        >>> groups = {"many": torch.tensor([True, False]), "few": torch.tensor([False, True])}
        >>> found = reliability_by_group(
        ...     torch.tensor([0.9, 0.7]), torch.tensor([True, False]), torch.tensor([0, 1]), groups
        ... )
        >>> {name: round(part.ece, 1) for name, part in found.items()}
        {'all': 40.0, 'many': 10.0, 'few': 70.0}
    """
    found = {"all": reliability(confidence_N, correct_N, bins=bins, weights_N=weights_N)}
    for name, members_C in groups.items():
        own_N = members_C[targets_N]
        own_weights = None if weights_N is None else weights_N[own_N]
        found[name] = reliability(confidence_N[own_N], correct_N[own_N], bins=bins, weights_N=own_weights)
    return found


def brier_score(logits_NC: Tensor, targets_N: Tensor, weights_N: Tensor | None = None) -> float:
    """Compute the mean squared distance of probabilities and one-hot targets, summed over classes: 0 (best) to 2.

    Args:
        logits_NC: Logits, any float type and device, shape (N, C).
        targets_N: Labels in [0, C), shape (N,).
        weights_N: Weight of each example, shape (N,). None (default) weights them equally.

    Example:
        >>> round(brier_score(torch.zeros(3, 2), torch.tensor([0, 1, 1])), 4)
        0.5
    """
    logits_NC = _at_least_float32(logits_NC)
    log_total_N = logits_NC.logsumexp(1)
    # sum of squared probabilities without storing the probabilities
    squares_N = ((2 * logits_NC).logsumexp(1) - 2 * log_total_N).double().exp()
    own_logit_N = logits_NC.gather(1, targets_N.to(logits_NC.device)[:, None])[:, 0]
    score_N = (squares_N - 2 * (own_logit_N - log_total_N).double().exp() + 1).cpu()
    return float(score_N.mean() if weights_N is None else (score_N * weights_N).sum() / weights_N.sum())


def fit_temperature(logits_MC: Tensor, targets_M: Tensor, *, balanced: bool) -> float:
    """Return the temperature with the lowest negative log-likelihood on held-out examples, in [0.05, 20].

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, https://arxiv.org/abs/1706.04599.

    Args:
        logits_MC: Logits, shape (M, C).
        targets_M: Labels, shape (M,).
        balanced: Give all classes equal weight, for logits of a uniform prior.

    Example:
        >>> logits, targets = torch.tensor([[4.0, 0.0]]).repeat(4, 1), torch.tensor([0, 0, 0, 1])
        >>> round(fit_temperature(logits, targets, balanced=False), 2)  # 4 / T = log 3
        3.64
    """
    from scipy.optimize import minimize_scalar

    counts_C = torch.bincount(targets_M, minlength=logits_MC.shape[1])
    weights_M = 1 / counts_C[targets_M].double() if balanced else torch.ones(len(targets_M), dtype=torch.float64)

    def cost(log_temperature: float) -> float:
        losses_M = F.cross_entropy(logits_MC.double() / math.exp(log_temperature), targets_M, reduction="none")
        return float((weights_M * losses_M).sum() / weights_M.sum())

    found = minimize_scalar(cost, bounds=(-math.log(20), math.log(20)), method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))
