"""The flag `convex`: the midpoint inequality on random logits, and a violation for each loss without it."""

import pytest
import torch
from torch import Tensor

from longtail import losses
from longtail.component import Component
from longtail.errors import InputError
from longtail.losses.base import Loss
from longtail.training.convex import check_convex, losses_of

COUNTS = [60, 30, 10, 3]
CONVEX = [
    Component("ALALoss"),
    Component("BalancedSigmoid"),
    Component("BalancedSoftmax"),
    Component("CDTLoss"),
    Component("ClassBalancedLoss"),
    Component("ClassBalancedLoss", {"kind": "sigmoid"}),
    Component("ClassBalancedLoss", {"kind": "focal", "gamma": 0.0}),
    Component("CrossEntropy"),
    Component("FocalLoss", {"gamma": 0.0}),
    Component("LADELoss", {"alpha": 0.0}),
    Component("LDAMLoss", {"scale": 3.0}),
    Component("LDAMLoss", {"scale": 3.0, "reweight_beta": 0.99}),
    Component("LabelAwareSmoothing", {"head": 0.4, "tail": 0.1}),
    Component("LogitAdjustedLoss", {"tau": 1.5}),
    Component("VSLoss"),
    Component("WeightedCrossEntropy"),
    Component("WeightedCrossEntropy", {"normalize": "batch"}),
]
OTHERS = [
    Component("ClassBalancedLoss", {"kind": "focal"}),
    Component("EqualizationLoss"),
    Component("FocalLoss"),
    Component("GCLLoss"),
    Component("InfluenceBalancedLoss"),
    Component("LADELoss"),
    Component("SeesawLoss"),
]


def excess(loss: Loss) -> Tensor:
    """Return how far the loss at the midpoint of two logits is above the mean of the two losses, shape (B,)."""
    generator = torch.Generator().manual_seed(0)
    targets_B = torch.randint(0, len(COUNTS), (20_000,), generator=generator)
    scale_B1 = torch.rand(20_000, 1, generator=generator, dtype=torch.float64) * 12
    first_BC, second_BC = scale_B1 * torch.randn(2, 20_000, len(COUNTS), generator=generator, dtype=torch.float64)
    middle_B = losses_of(loss, (first_BC + second_BC) / 2, targets_B)
    ends_B = (losses_of(loss, first_BC, targets_B) + losses_of(loss, second_BC, targets_B)) / 2
    return (middle_B - ends_B) / (1 + ends_B.abs())


@pytest.mark.parametrize("component", CONVEX, ids=str)
def test_a_loss_that_claims_to_be_convex_satisfies_the_midpoint_inequality(component):
    loss = component.build(losses, COUNTS).eval()
    assert loss.convex
    assert float(excess(loss).max()) < 1e-9


@pytest.mark.parametrize("name", ["FocalLoss", "InfluenceBalancedLoss", "SeesawLoss"])
def test_losses_that_weight_by_their_logits_violate_it(name):
    torch.manual_seed(0)
    loss = getattr(losses, name)(COUNTS).eval()
    assert float(excess(loss).max()) > 1e-3


@pytest.mark.parametrize("component", OTHERS, ids=str)
def test_a_loss_without_the_flag_is_refused_by_name(component):
    with pytest.raises(InputError, match=f"convex in the logits for a solved head, got {component.name}"):
        check_convex(component.build(losses, COUNTS))


def test_every_loss_is_on_one_of_the_lists():
    assert {component.name for component in CONVEX + OTHERS} == set(losses.__all__)


def test_a_module_that_is_no_loss_of_the_library_is_refused():
    with pytest.raises(InputError, match="got CrossEntropyLoss"):
        check_convex(torch.nn.CrossEntropyLoss())
