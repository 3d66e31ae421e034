"""Choice of the L2 penalty of a solved head on held-out examples, and the final solution on all of them.

Shapes: N = examples, D = features, R = coordinates of the standardized features, C = classes, M = held-out examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from longtail.data.splits import balanced_holdout
from longtail.errors import InputError, unknown_name
from longtail.losses.base import Loss
from longtail.models.heads import LinearHead
from longtail.training.convex import Features, OnEvaluation, Scaling, Solution, losses_of, solve, standardize

Criterion = Literal["balanced", "balanced_loss", "loss"]

CANDIDATES = (1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
"""Penalties, strongest first: each solution is the start of the next one."""
PATIENCE = 3
"""Number of candidates without an improvement after which weaker ones are not tried."""
CHOICE_SIZE = 20_000
"""Largest number of training examples of the choice. Frequent classes are thinned out, and weighted accordingly."""
LOOSE = 1e-3
"""Tolerance of the solutions that are only compared."""
ROUGH_SIZE = 6_000
"""Number of training examples of a first, rough choice if there are more than twice as many. It selects the scaling and
a penalty, and only the penalties next to it are tried on `CHOICE_SIZE` examples."""
ROUGH = 3e-3
"""Tolerance of the solutions that are only compared if there is a rough choice."""


@dataclass(frozen=True, eq=False)
class SolvedHead:
    """Linear head at its optimum, and how it was found.

    Args:
        head: Head on the original features.
        l2: Penalty on the weights of standardized features.
        scaling: Standardization of the features, "each" or "all".
        curve: Held-out score of each candidate that was tried, higher is better; empty for a given penalty.
        solution: Optimum on all training examples.
        held_head: Head with this penalty that was trained without the held-out examples, or None for a given penalty.
        held_M: Indices of the held-out training examples, or None if there are none.
    """

    head: LinearHead
    l2: float
    scaling: str
    curve: dict[float, float]
    solution: Solution
    held_head: LinearHead | None = None
    held_M: Tensor | None = None

    @property
    def chosen(self) -> dict[str, object]:
        """Choice and quality of the solution, for the result of a run."""
        curve = {f"{l2:g}": score for l2, score in self.curve.items()}
        quality = {"gradient": self.solution.gradient, "passes": self.solution.evaluations}
        return {"l2": self.l2, "scaling": self.scaling, **({"held_out": curve} if curve else {}), **quality}


def solve_head(
    features_ND: Tensor,
    targets_N: Tensor,
    loss: Loss,
    *,
    l2: float | None = None,
    candidates: Sequence[float] = CANDIDATES,
    criterion: Criterion = "loss",
    scaling: Literal["auto", "each", "all"] = "auto",
    held_out: tuple[Tensor, Tensor] | None = None,
    holdout_share: float = 0.2,
    seed: int = 0,
    weights_C: Tensor | None = None,
    tolerance: float = 5e-4,
    on_evaluation: OnEvaluation | None = None,
) -> SolvedHead:
    """Solve a linear head on fixed features, with the L2 penalty that is best on held-out examples.

    Args:
        features_ND: Features of the training examples, any float type, on the device of the computation.
        targets_N: Labels in [0, C), shape (N,).
        loss: Loss that is convex in the logits.
        l2: Penalty, > 0. None chooses one of the candidates.
        candidates: Penalties to try, > 0.
        criterion: Held-out score: "balanced" accuracy, or the negative "loss", as a mean over the examples or, with
            "balanced_loss", over the classes.
        scaling: Standardization of the features, see `longtail.training.convex.standardize`. "auto" chooses it together
            with the penalty, and is "each" for a given penalty.
        held_out: Features and labels on which to choose. None holds out a stratified part of the training examples for
            the choice; the final solution uses all of them.
        holdout_share: Share of each class in that part.
        seed: Seed of that part.
        weights_C: Weight of the examples of each class. None weights all examples equally.
        tolerance: Largest entry of the gradient, see `longtail.training.convex.Solution`.
        on_evaluation: Function called before each pass over the examples, which may raise to stop.

    Raises:
        InputError: If the loss is not convex, or no example can be held out.

    Example:
        >>> from longtail.losses import BalancedSoftmax
        >>> features, targets = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
        >>> solved = solve_head(features, targets, BalancedSoftmax([30, 30]), l2=0.1)
        >>> solved.head(features).shape, solved.solution.converged
        (torch.Size([60, 2]), True)
    """
    if criterion not in get_args(Criterion):
        raise unknown_name("criterion", criterion, get_args(Criterion))
    options: dict[str, Any] = {"weights_C": weights_C, "on_evaluation": on_evaluation}
    if l2 is not None:
        used: Scaling = "each" if scaling == "auto" else scaling
        features = standardize(features_ND, used)
        solution = solve(features, targets_N, loss, l2, tolerance=tolerance, **options)
        return SolvedHead(features.head(solution.weight_CR, solution.bias_C), l2, used, {}, solution)
    is_large = len(targets_N) > 2 * ROUGH_SIZE and len(candidates) > 1
    parts = _Parts(targets_N, loss, held_out, holdout_share, seed, weights_C, criterion, on_evaluation)
    best: tuple[Scaling, Features, _Choice] | None = None
    scalings: tuple[Scaling, ...] = ("each", "all") if scaling == "auto" else (scaling,)
    for used in scalings:
        features = standardize(features_ND, used)
        choice = _Choice(features, parts, ROUGH_SIZE if is_large else CHOICE_SIZE, ROUGH if is_large else LOOSE)
        choice.try_all(candidates)
        if best is None or choice.score > best[2].score:
            best = (used, features, choice)
    assert best is not None
    used, features, choice = best
    if is_large:
        rough, choice = choice, _Choice(features, parts, CHOICE_SIZE, ROUGH)
        choice.try_around(rough, candidates)
    solution = solve(features, targets_N, loss, choice.l2, start=choice.solution, tolerance=tolerance, **options)
    head = features.head(solution.weight_CR, solution.bias_C)
    held_head = features.head(choice.solution.weight_CR, choice.solution.bias_C)
    return SolvedHead(head, choice.l2, used, choice.curve, solution, held_head, choice.held_M)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Examples, held-out examples and loss of a choice; see `solve_head`."""

    targets_N: Tensor
    loss: Loss
    held_out: tuple[Tensor, Tensor] | None
    holdout_share: float
    seed: int
    weights_C: Tensor | None
    criterion: Criterion
    on_evaluation: OnEvaluation | None


class _Choice:
    """Solutions with one penalty after another, and the best of them on held-out examples.

    Args:
        features: Features of all training examples.
        parts: Labels, held-out examples and loss.
        size: Largest number of training examples to use.
        tolerance: Tolerance of the solutions.
    """

    l2: float
    solution: Solution
    held_M: Tensor | None = None

    def __init__(self, features: Features, parts: _Parts, size: int, tolerance: float) -> None:
        self.parts, self.tolerance = parts, tolerance
        num_classes, targets_N = len(parts.loss.counts_C), parts.targets_N.cpu()
        if parts.held_out is None:
            kept, held = stratified_holdout(targets_N, num_classes, parts.holdout_share, parts.seed)
            self.held_MR = features.values_NR[held.to(features.values_NR.device)].double()
            self.held_targets_M, self.held_M = targets_N[held], held
        else:
            kept = torch.arange(len(targets_N))
            self.held_MR, self.held_targets_M = features.transform(parts.held_out[0]).double(), parts.held_out[1].cpu()
        thinned, thinning_C = thin(targets_N[kept], num_classes, size, parts.seed)
        rows = kept[thinned]
        self.features = features if len(rows) == len(features) else features.subset(rows)
        self.targets_N = targets_N[rows]
        self.weights_C = thinning_C if parts.weights_C is None else parts.weights_C.cpu() * thinning_C
        self.curve: dict[float, float] = {}

    @property
    def score(self) -> float:
        """Held-out score of the best penalty."""
        return self.curve[self.l2]

    def try_all(self, candidates: Sequence[float]) -> None:
        """Solve with the candidates, strongest first, until `PATIENCE` of them bring no improvement."""
        start: Solution | None = None
        since_best = 0
        for l2 in sorted(candidates, reverse=True):
            start = self._try(l2, start)
            since_best = 0 if self.l2 == l2 else since_best + 1
            if since_best == PATIENCE:
                break

    def try_around(self, rough: "_Choice", candidates: Sequence[float]) -> None:
        """Solve with the penalty of a rough choice, then with weaker or else stronger ones while they are better."""
        ordered = sorted(candidates, reverse=True)
        first = ordered.index(rough.l2)
        self._try(rough.l2, rough.solution)
        for others in (ordered[first + 1 :], ordered[:first][::-1]):
            for l2 in others:
                self._try(l2, self.solution)
                if self.l2 != l2:
                    break
            if self.l2 != rough.l2:
                break

    def _try(self, l2: float, start: Solution | None) -> Solution:
        """Solve with a penalty, and keep the solution if none before is better."""
        solution = solve(
            self.features,
            self.targets_N,
            self.parts.loss,
            l2,
            start=start,
            weights_C=self.weights_C,
            tolerance=self.tolerance,
            on_evaluation=self.parts.on_evaluation,
        )
        logits_MC = torch.addmm(solution.bias_C, self.held_MR, solution.weight_CR.T).cpu()
        self.curve[l2] = _score(logits_MC, self.held_targets_M, self.parts.loss, self.parts.criterion)
        if self.curve[l2] >= max(self.curve.values()):
            self.l2, self.solution = l2, solution
        return solution


def _score(logits_MC: Tensor, targets_M: Tensor, loss: Loss, criterion: Criterion) -> float:
    """Return the held-out score, higher is better."""
    if criterion == "balanced":
        values_M = (logits_MC.argmax(dim=1) == targets_M).double()
    else:
        values_M = -losses_of(loss.to(logits_MC.device), logits_MC, targets_M).double()
    if criterion == "loss":
        return float(values_M.mean())
    counts_C = torch.bincount(targets_M, minlength=logits_MC.shape[1])
    sums_C = torch.zeros_like(counts_C, dtype=torch.float64).index_add(0, targets_M, values_M)
    return float((sums_C[counts_C > 0] / counts_C[counts_C > 0]).mean())


def stratified_holdout(targets_N: Tensor, num_classes: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Hold out a share of each class, at least one example of a class of two or more, and keep at least one.

    Args:
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.
        share: Share of each class, in (0, 1).
        seed: Seed of the draw.

    Returns:
        Indices kept and indices held out.

    Raises:
        InputError: If no class has two examples.

    Example:
        >>> kept, held = stratified_holdout(torch.tensor([0] * 10 + [1, 1, 2]), 3, 0.2, seed=0)
        >>> len(kept), len(held)
        (10, 3)
    """
    counts_C = torch.bincount(targets_N.cpu(), minlength=num_classes)
    quota_C = (counts_C * share).round().long().clamp(min=1).minimum((counts_C - 1).clamp(min=0))
    if not bool(quota_C.any()):
        raise InputError(
            "every class has a single example, so none can be held out to choose the L2 penalty; set `l2`, such as 0.01"
        )
    return balanced_holdout(targets_N.cpu(), num_classes, quota_C, seed)


def thin(targets_N: Tensor, num_classes: int, limit: int, seed: int) -> tuple[Tensor, Tensor]:
    """Select about `limit` examples: all of the rare classes, and equally many of each of the frequent ones.

    Args:
        targets_N: Labels in [0, C), shape (N,).
        num_classes: Number of classes C.
        limit: Number of examples to select, or more if there are more classes.
        seed: Seed of the draw.

    Returns:
        Indices of the selected examples, and a weight per class, shape (C,), with which they represent all examples.

    Example:
        >>> rows, weights = thin(torch.tensor([0] * 8 + [1, 1]), 2, limit=6, seed=0)
        >>> len(rows), weights.tolist()
        (6, [1.2, 0.6])
    """
    counts_C = torch.bincount(targets_N.cpu(), minlength=num_classes)
    if len(targets_N) <= limit:
        return torch.arange(len(targets_N)), torch.ones(num_classes, dtype=torch.float64)
    ascending_C = counts_C.sort().values
    # with the cap at the i-th smallest count, all i smaller classes are complete
    sizes_C = ascending_C.cumsum(0) + ascending_C * torch.arange(num_classes - 1, -1, -1)
    complete = int((sizes_C <= limit).sum())
    spare = limit - int(ascending_C[:complete].sum())
    quota_C = counts_C.clamp(max=max(1, spare // max(num_classes - complete, 1)))
    _, rows = balanced_holdout(targets_N.cpu(), num_classes, quota_C, seed)
    weights_C = counts_C.double() / quota_C.clamp(min=1)
    return rows, weights_C * len(rows) / len(targets_N)
