"""Run every check of `tests/conformance.py` on every loss in `longtail.losses.__all__`."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longtail import losses
from tests.conformance import LOSS_CHECKS, LossCase

# options that disable the random numbers of a loss
DETERMINISTIC: dict[str, dict[str, Any]] = {
    "EqualizationLoss": {"gamma": 1.0},
    "GCLLoss": {"noise": 0.0},
}


def same_margin_everywhere(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    return F.cross_entropy(30 * (logits_BC - 0.5 * F.one_hot(targets_B, logits_BC.shape[1])), targets_B)


def same_quantity_everywhere(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    margins_BC = (1 - logits_BC) / (2 * math.log(2))
    return F.cross_entropy(30 * (logits_BC - margins_BC * F.one_hot(targets_B, logits_BC.shape[1])), targets_B)


def sum_of_sigmoids(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    one_hot_BC = F.one_hot(targets_B, logits_BC.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits_BC, one_hot_BC, reduction="sum") / len(targets_B)


def over_influence(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    influence_B = (F.softmax(logits_BC, dim=1) - F.one_hot(targets_B, logits_BC.shape[1])).abs().sum(dim=1)
    return (F.cross_entropy(logits_BC, targets_B, reduction="none") / (influence_B + 1e-3)).mean()


def with_unweighted_bound(logits_BC: Tensor, targets_B: Tensor) -> Tensor:
    bounds = []
    for c in range(logits_BC.shape[1]):
        log_mean = logits_BC[:, c].exp().mean().log()
        bounds.append(-logits_BC[targets_B == c, c].mean() + log_mean + 0.1 * log_mean**2)
    return F.cross_entropy(logits_BC, targets_B) + 0.1 * torch.stack(bounds).mean()


# loss with equal counts, if it is not cross-entropy
PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ALALoss": same_quantity_everywhere,
    "BalancedSigmoid": sum_of_sigmoids,
    "GCLLoss": lambda logits_BC, targets_B: F.cross_entropy(30 * logits_BC, targets_B),
    "InfluenceBalancedLoss": over_influence,
    "LADELoss": with_unweighted_bound,
    "LDAMLoss": same_margin_everywhere,
}

# (loss, check): reason of the failure; each must fail, so that outdated reasons are noticed
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("FocalLoss", "equal_counts_give_the_plain_loss"): "weights by difficulty, never by counts",
    ("LADELoss", "soft_targets_are_an_expectation"): "compares the means of the classes over a batch",
    ("SeesawLoss", "equal_counts_give_the_plain_loss"): "weights by the scores, and by what the batches held",
    ("SeesawLoss", "gradient_is_the_derivative"): "the compensation factor is a constant by the paper's definition",
    (
        "SeesawLoss",
        "soft_targets_are_an_expectation",
    ): "would need a table of (B, C, C): a soft target is averaged first",
}


def all_pairs() -> list[Any]:
    pairs = []
    for loss in losses.__all__:
        for check in LOSS_CHECKS:
            reason = EXCEPTIONS.get((loss, check))
            marks = [pytest.mark.xfail(reason=reason, raises=(AssertionError, RuntimeError))] if reason else []
            pairs.append(pytest.param(loss, check, marks=marks, id=f"{loss}-{check}"))
    return pairs


def loss_case(name: str) -> LossCase:
    return LossCase(name, DETERMINISTIC.get(name, {}), PLAIN.get(name, F.cross_entropy))


@pytest.mark.parametrize(("name", "check"), all_pairs())
def test_conforms(name: str, check: str) -> None:
    torch.manual_seed(0)
    LOSS_CHECKS[check](loss_case(name))


def test_tables_name_losses_and_checks_that_exist() -> None:
    assert {*DETERMINISTIC, *PLAIN, *(loss for loss, _ in EXCEPTIONS)} <= set(losses.__all__)
    assert {check for _, check in EXCEPTIONS} <= set(LOSS_CHECKS)
