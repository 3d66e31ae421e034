"""Linear heads on fixed features, solved to convergence.

For a loss that is convex in the logits, a linear head with an L2 penalty has one optimum:

    minimize  mean_n loss(W x_n + b, y_n) + l2 / 2 |W|^2

The features x are standardized: mean 0 and standard deviation 1 of each feature over the training examples. The bias is
not penalized. `1 / (N l2)` is the `C` of scikit-learn's `LogisticRegression`. L-BFGS (SciPy's, whose line search
satisfies the strong Wolfe conditions) runs on all examples at once in coordinates in which the Hessian is close to the
identity: the features are rotated once to the eigenvectors of their covariance, and scaled per class by the curvature
of the loss. The number of iterations then hardly depends on how correlated the features are. No random numbers are
used.

Shapes: N = examples, D = features, R = coordinates (D, or fewer if there are fewer examples than features),
C = classes, B = examples of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.models.heads import LinearHead, linear_head

CHUNK_LOGITS = 2**20
"""Largest number of logits that are in memory at a time, small enough for the cache of a CPU."""
CHUNK_FEATURES = 2**24
"""Largest number of features that are converted at a time, and of a data set that is solved in float64."""
SMALLEST_CURVATURE = 1e-6

Array = npt.NDArray[np.float64]
OnEvaluation = Callable[[], None]
Scaling = Literal["each", "all"]


@dataclass(frozen=True, eq=False)
class Features:
    """Standardized features, in float64 up to 16.8 million values and in float32 above.

    Args:
        values_NR: Standardized features in coordinates in which their covariance is diagonal.
        mean_D: Mean of each feature over the training examples.
        std_D: Standard deviation of each feature, 1 for a constant feature.
        span_DR: Orthonormal basis of these coordinates: the eigenvectors of the covariance, in columns.
        variances_R: Eigenvalues of the covariance.
    """

    values_NR: Tensor
    mean_D: Tensor
    std_D: Tensor
    span_DR: Tensor
    variances_R: Tensor

    def __len__(self) -> int:
        return len(self.values_NR)

    def subset(self, rows: Tensor) -> Features:
        """Return the examples at `rows`. Statistics and coordinates stay."""
        return replace(self, values_NR=self.values_NR[rows.to(self.values_NR.device)])

    def transform(self, features_MD: Tensor) -> Tensor:
        """Return other examples in the coordinates of these, shape (M, R)."""
        return _standardized(features_MD, self.mean_D, self.std_D, self.values_NR) @ self.span_DR

    def head(self, weight_CR: Tensor, bias_C: Tensor) -> LinearHead:
        """Return the head on the original features, float32, with the standardization folded in.

        Args:
            weight_CR: Weights on the coordinates.
            bias_C: Bias of each class.
        """
        weight_CD = weight_CR.double() @ self.span_DR.double().T / self.std_D
        return linear_head(weight_CD.float(), (bias_C.double() - weight_CD @ self.mean_D).float())


def standardize(features_ND: Tensor, scaling: Scaling = "each") -> Features:
    """Standardize training features and find the coordinates in which their covariance is diagonal.

    The result holds one copy of the features, of reduced width if there are fewer examples than features.

    Args:
        features_ND: Features of the training examples, shape (N, D), any float type.
        scaling: "each" divides each feature by its own standard deviation, "all" divides all by the root of their mean
            variance, which keeps their relative sizes.

    Example:
        >>> found = standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]]))
        >>> found.mean_D, found.variances_R
        (tensor([3., 5.], dtype=torch.float64), tensor([0.0000, 1.0000], dtype=torch.float64))
    """
    num, dim = features_ND.shape
    dtype = torch.float64 if features_ND.numel() <= CHUNK_FEATURES else torch.float32
    mean_D, std_D = statistics(features_ND)
    if scaling == "all":
        std_D = std_D.square().mean().sqrt().expand(dim)
    values_ND = _standardized(features_ND, mean_D, std_D, torch.empty(0, dtype=dtype, device=features_ND.device))
    if num >= dim:
        variances_D, vectors_DD = torch.linalg.eigh((values_ND.T @ values_ND).double() / num)
        span_DR = vectors_DD.to(dtype)
        for chunk in _chunks(values_ND):
            chunk.copy_(chunk @ span_DR)
        return Features(values_ND, mean_D, std_D, span_DR, variances_D.clamp(min=0))
    squares_N, left_NN = torch.linalg.eigh((values_ND @ values_ND.T).double())
    kept = squares_N > squares_N.max().clamp(min=1e-30) * 1e-12 * num
    lengths_R, left_NR = squares_N[kept].sqrt(), left_NN[:, kept]
    span_DR = (values_ND.T.double() @ left_NR / lengths_R).to(dtype)
    return Features((left_NR * lengths_R).to(dtype), mean_D, std_D, span_DR, squares_N[kept] / num)


def statistics(features_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each feature, float64, with one chunk in memory.

    Args:
        features_ND: Features, shape (N, D), any float type.

    Returns:
        Two tensors of shape (D,). The deviation of a constant feature is given as 1.
    """
    num = len(features_ND)
    mean_D = torch.stack([chunk.double().sum(dim=0) for chunk in _chunks(features_ND)]).sum(dim=0) / num
    squares = [(chunk.double() - mean_D).square_().sum(dim=0) for chunk in _chunks(features_ND)]
    std_D = (torch.stack(squares).sum(dim=0) / num).sqrt()
    noise_D = 1e-7 * mean_D.abs()  # rounding makes the deviation of a constant feature slightly more than 0
    return mean_D, torch.where(std_D > noise_D, std_D, 1.0)


def _standardized(features_MD: Tensor, mean_D: Tensor, std_D: Tensor, like: Tensor) -> Tensor:
    values_MD = torch.empty(features_MD.shape, dtype=like.dtype, device=like.device)
    for start, chunk in zip(range(0, len(values_MD), _rows(features_MD)), _chunks(features_MD), strict=True):
        values_MD[start : start + len(chunk)] = (chunk.to(like.device).double() - mean_D) / std_D
    return values_MD


def _chunks(features_ND: Tensor) -> tuple[Tensor, ...]:
    return torch.split(features_ND, _rows(features_ND))


def _rows(features_ND: Tensor) -> int:
    return max(1, CHUNK_FEATURES // 4 // max(features_ND.shape[1], 1))


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimum of a linear head on standardized features.

    Args:
        weight_CR: Weights on the coordinates of the features, float64.
        bias_C: Bias of each class, float64.
        value: Objective: mean loss and penalty.
        gradient: Largest entry of the gradient in the scaled coordinates. Half the sum of its squares is about the
            distance of the objective from its minimum.
        evaluations: Number of passes over the examples.
        converged: Whether `gradient` is at most the tolerance.
    """

    weight_CR: Tensor
    bias_C: Tensor
    value: float
    gradient: float
    evaluations: int
    converged: bool


def solve(
    features: Features,
    targets_N: Tensor,
    loss: Loss,
    l2: float,
    *,
    start: Solution | None = None,
    weights_C: Tensor | None = None,
    tolerance: float = 1e-5,
    max_evaluations: int = 2000,
    on_evaluation: OnEvaluation | None = None,
) -> Solution:
    """Minimize the mean loss of a linear head plus `l2 / 2` times the squared norm of its weights.

    Args:
        features: Standardized training features.
        targets_N: Labels in [0, C), shape (N,).
        loss: Loss that is convex in the logits.
        l2: L2 penalty, > 0.
        start: Solution of a similar problem on the same coordinates. None starts from 0.
        weights_C: Weight of the examples of each class. None weights all examples equally.
        tolerance: Largest entry of the gradient at which to stop, in the scaled coordinates (see `Solution`).
        max_evaluations: Largest number of passes over the examples.
        on_evaluation: Function called before each pass, which may raise to stop.

    Raises:
        InputError: If the loss is not convex.
    """
    check_convex(loss)
    from scipy.optimize import minimize

    problem = _Problem(features, targets_N, loss, l2, weights_C, on_evaluation)
    point = problem.scale(start)
    options = {"gtol": tolerance, "ftol": 0.0, "maxfun": max_evaluations, "maxiter": max_evaluations, "maxcor": 20}
    found = minimize(problem, point, jac=True, method="L-BFGS-B", options=options)
    weight_CR, bias_C = problem.unscale(torch.from_numpy(found.x))
    largest = float(np.abs(found.jac).max())
    return Solution(weight_CR, bias_C, float(found.fun), largest, problem.evaluations, largest <= tolerance)


def check_convex(loss: object) -> None:
    """Refuse a loss that is not convex in the logits.

    Raises:
        InputError: With the name of the loss and what to use instead.

    Example:
        >>> from longtail.losses import FocalLoss
        >>> check_convex(FocalLoss([3, 1]))
        Traceback (most recent call last):
        ...
        longtail.errors.InputError: `loss` must be convex in the logits for a solved head, got FocalLoss(...); use
        CrossEntropy, BalancedSoftmax or another loss with `convex`, or train the head by SGD
    """
    if not isinstance(loss, Loss) or not loss.convex:
        raise InputError(
            f"`loss` must be convex in the logits for a solved head, got {loss!r}; use CrossEntropy, BalancedSoftmax "
            "or another loss with `convex`, or train the head by SGD"
        )


class _Problem:
    """Objective and gradient in scaled coordinates, as SciPy calls them."""

    def __init__(
        self,
        features: Features,
        targets_N: Tensor,
        loss: Loss,
        l2: float,
        weights_C: Tensor | None,
        on_evaluation: OnEvaluation | None,
    ) -> None:
        self.features, self.l2, self.on_evaluation = features, l2, on_evaluation
        self.device = features.values_NR.device
        self.loss = loss.to(self.device).eval()
        self.targets_N = targets_N.to(self.device)
        self.weights_C = None if weights_C is None else weights_C.to(self.device, torch.float64)
        self.num_classes, self.num_coordinates = len(loss.counts_C), features.values_NR.shape[1]
        self.rows = max(1, CHUNK_LOGITS // self.num_classes)
        self.evaluations = 0

    def scale(self, start: Solution | None) -> Array:
        """Set the scales from the curvature of the loss at the start, and return the start in scaled coordinates."""
        if start is None:
            weight_CR = torch.zeros(self.num_classes, self.num_coordinates, dtype=torch.float64, device=self.device)
            bias_C = weight_CR.new_zeros(self.num_classes)
        else:
            weight_CR, bias_C = start.weight_CR, start.bias_C
        # for a log-likelihood, the mean square of the slope of a logit is the curvature
        squares_C = torch.zeros_like(bias_C)
        self._pass(weight_CR, bias_C, squares_C)
        curvature_C = squares_C.clamp(min=SMALLEST_CURVATURE)
        self.scale_C = curvature_C.rsqrt()
        self.scale_CR = (curvature_C[:, None] * self.features.variances_R + self.l2).rsqrt()
        return _flat(weight_CR / self.scale_CR, bias_C / self.scale_C)

    def unscale(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and bias of a point in scaled coordinates."""
        both = point.to(self.device)
        size = self.num_classes * self.num_coordinates
        weight_CR = both[:size].view(self.num_classes, self.num_coordinates) * self.scale_CR
        return weight_CR, both[size:] * self.scale_C

    def __call__(self, point: Array) -> tuple[float, Array]:
        """Return objective and gradient."""
        weight_CR, bias_C = self.unscale(torch.from_numpy(point))
        value, slope_CR, slope_C = self._pass(weight_CR, bias_C)
        slope_CR += self.l2 * weight_CR
        penalty = 0.5 * self.l2 * float(weight_CR.square().sum())
        return value + penalty, _flat(slope_CR * self.scale_CR, slope_C * self.scale_C)

    def _pass(self, weight_CR: Tensor, bias_C: Tensor, squares_C: Tensor | None = None) -> tuple[float, Tensor, Tensor]:
        """Return the mean loss and its gradient. Add the mean square of the slope of each logit to `squares_C`."""
        if self.on_evaluation is not None:
            self.on_evaluation()
        self.evaluations += 1
        values_NR = self.features.values_NR
        narrow_CR, narrow_C = weight_CR.to(values_NR.dtype), bias_C.to(values_NR.dtype)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        slope_CR, slope_C = torch.zeros_like(weight_CR), torch.zeros_like(bias_C)
        num = len(values_NR)
        for values_BR, targets_B in zip(
            torch.split(values_NR, self.rows), torch.split(self.targets_N, self.rows), strict=True
        ):
            logits_BC = torch.addmm(narrow_C, values_BR, narrow_CR.T)
            losses_B, slopes_BC = self._slopes(logits_BC, targets_B)
            total += losses_B.double().sum()
            slope_CR += slopes_BC.T @ values_BR
            slope_C += slopes_BC.double().sum(dim=0)
            if squares_C is not None:
                squares_C += slopes_BC.double().square().sum(dim=0) / num
        return float(total) / num, slope_CR / num, slope_C / num

    def _slopes(self, logits_BC: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted losses (B,) and their derivatives by the logits (B, C)."""
        with torch.enable_grad():
            logits_BC.requires_grad_()
            losses_B = losses_of(self.loss, logits_BC, targets_B)
            if self.weights_C is not None:
                losses_B = losses_B * self.weights_C[targets_B].to(losses_B.dtype)
            (slopes_BC,) = torch.autograd.grad(losses_B.sum(), logits_BC)
        return losses_B.detach(), slopes_BC


def losses_of(loss: Loss, logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    """Return the loss of each example, shape (B,), whatever the reduction of the loss.

    A normalization over the batch is left out: over all examples it is a constant factor, which the choice of the
    penalty absorbs.

    Args:
        loss: Loss with one term per example.
        logits_BC: Logits, shape (B, C).
        targets_B: Labels in [0, C), shape (B,).

    Example:
        >>> from longtail.losses import CrossEntropy
        >>> losses_of(CrossEntropy([1, 1]), torch.zeros(2, 2), torch.tensor([0, 1]))
        tensor([0.6931, 0.6931])
    """
    before, loss.reduction = loss.reduction, "none"
    try:
        losses_B: Tensor = Loss.forward(loss, logits_BC, targets_B)
    finally:
        loss.reduction = before
    return losses_B


def _flat(weight_CR: Tensor, bias_C: Tensor) -> Array:
    flat: Array = torch.cat([weight_CR.flatten(), bias_C]).cpu().numpy()
    return flat
