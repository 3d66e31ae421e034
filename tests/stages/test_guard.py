"""The warning against balancing twice, and the argument behind it."""

import json

import pytest
import torch
from longtail.stages.guard import balanced_twice

from longtail import losses, samplers
from longtail.component import Component
from longtail.config import recipes
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.run.fit import fit


def twice(**changes: object) -> list[str]:
    return balanced_twice(
        [Component("Retrain", {"loss": "BalancedSoftmax", "sampler": "ClassBalancedSampler", **changes})]
    )


def test_the_warning_names_stage_loss_sampler_reason_evidence_and_ways_out():
    (warning,) = twice()
    for words in ("stage 1", "BalancedSoftmax", "ClassBalancedSampler", "1 / n^2", "35.1", "issue 11", "balance_twice"):
        assert words in warning


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "CrossEntropy"},
        {"loss": {"name": "LabelAwareSmoothing", "head": 0.4}},  # smooths, and leaves the balance alone
        {"sampler": "InstanceSampler"},
        {"sampler": "MetaSampler"},  # learns its rates under the loss
        {"balance_twice": True},
    ],
)
def test_what_balances_once_or_means_it_is_left_alone(changes):
    assert twice(**changes) == []


def test_options_of_a_component_do_not_hide_it():
    assert len(twice(loss={"name": "LogitAdjustedLoss", "tau": 1.0})) == 1
    assert len(twice(sampler={"name": "SquareRootSampler"})) == 1


def test_stages_without_a_sampler_are_passed_over():
    stages = [Component("Adjust", {"method": "LogitAdjustment"}), Component("Train", {"loss": "CrossEntropy"})]
    assert balanced_twice(stages) == []


def test_components_say_themselves_whether_they_balance():
    blind = {name for name in losses.__all__ if not getattr(losses, name).balances}
    assert blind == {"CrossEntropy", "FocalLoss", "LabelAwareSmoothing"}
    assert {name for name in samplers.__all__ if not getattr(samplers, name).balances} == {
        "InstanceSampler",
        "MetaSampler",
        "TwoStreamSampler",
    }


@pytest.mark.parametrize("method", recipes.names("methods"))
def test_no_shipped_method_balances_twice_without_saying_so(method):
    assert balanced_twice(recipes.compose("digits-lt", method).stages) == []


def test_a_run_says_it_on_the_terminal_and_in_its_result(tmp_path, capsys):
    changes = [{"training": {"epochs": 1}}, {"set": [("stages.0.sampler", "ClassBalancedSampler")]}]
    fit(recipes.compose("digits-lt", "balanced-softmax", changes=changes), tmp_path, report=False)
    assert "warning: stage 1 balances twice" in capsys.readouterr().err
    notes = json.loads((tmp_path / "result.json").read_text())["notes"]
    assert any("balances twice" in note for note in notes)


def plane_share_of_the_rarest(loss: torch.nn.Module, weights: torch.Tensor) -> float:
    """Share of the plane that a linear layer gives the rarest of three points, trained with examples so weighted.

    BALMS, supplement Fig. 3: 10,000, 100 and 1 copies of three points.
    """
    points = torch.tensor([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]])
    weight, bias = torch.zeros(3, 2, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=10.0)
    for _ in range(400):
        optimizer.zero_grad()
        (weights * loss(points @ weight.T + bias, torch.arange(3))).sum().backward()
        optimizer.step()
    angles = torch.linspace(0, 6.2832, 721)[:-1]
    grid = torch.cat([radius * torch.stack([angles.cos(), angles.sin()], dim=1) for radius in (0.5, 1.0, 2.0)])
    return float(((grid @ weight.T + bias).argmax(dim=1) == 2).float().mean())


def test_balanced_softmax_under_class_balanced_sampling_gives_the_rarest_class_too_much():
    counts = torch.tensor([10_000, 100, 1])
    natural, even = counts / counts.sum(), torch.full((3,), 1 / 3)
    softmax, balanced = CrossEntropy(counts, reduction="none"), BalancedSoftmax(counts, reduction="none")
    resampled = plane_share_of_the_rarest(softmax, even)
    assert resampled == pytest.approx(1 / 3, abs=0.02)  # a third of the plane is fair
    once = plane_share_of_the_rarest(balanced, natural)
    both = plane_share_of_the_rarest(balanced, even)
    assert both > max(once, resampled) + 0.1


def test_a_loss_that_takes_cosines_refuses_a_head_that_gives_none(tmp_path):
    with pytest.raises(InputError, match=r"LDAMLoss takes cosines .* the model has a LinearHead; .* CosineHead"):
        fit(recipes.compose("digits-lt", "ce", changes=[{"loss": "LDAMLoss"}]), tmp_path / "run")
    scaled = [{"loss": "LDAMLoss", "model": {"head": {"name": "CosineHead", "scale": 16.0}}}]
    with pytest.raises(InputError, match=r"CosineHead \{'scale': 16.0\}"):
        fit(recipes.compose("digits-lt", "ce", changes=scaled), tmp_path / "run")
    assert not (tmp_path / "run").exists()
