"""Checks shared by the stages: the warning about double balancing, and heads that do not fit a loss."""

import dataclasses
import json
import logging

import pytest
import torch

from longtail import losses, samplers
from longtail.component import Component
from longtail.config import recipes
from longtail.config.convert import from_mapping
from longtail.config.schema import Config
from longtail.config.stage import Stage
from longtail.errors import InputError
from longtail.losses import BalancedSoftmax, CrossEntropy
from longtail.run.fit import fit
from longtail.run.result import stage_warnings
from longtail.stages import Adjust, Retrain, Train


def warnings_of(**changes: object) -> list[str]:
    """Return the warnings of a stage whose loss and sampler both balance, unless the changes prevent it."""
    mapping = {"name": "Retrain", "loss": "BalancedSoftmax", "sampler": "ClassBalancedSampler", **changes}
    stage: Stage = from_mapping(Stage, mapping)
    return stage.warnings()


def test_the_warning_names_loss_sampler_reason_evidence_and_ways_out():
    (warning,) = warnings_of()
    for words in ("BalancedSoftmax", "ClassBalancedSampler", "1 / n^2", "35.1", "issue 11"):
        assert words in warning


@pytest.mark.parametrize("cls", [Train, Retrain])
def test_the_option_that_the_warning_recommends_exists_and_suppresses_it(cls):
    double = cls(loss=Component("BalancedSoftmax"), sampler=Component("ClassBalancedSampler"))
    (warning,) = double.warnings()
    (option,) = (field.name for field in dataclasses.fields(cls) if f"`{field.name}`" in warning)
    assert dataclasses.replace(double, **{option: True}).warnings() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "CrossEntropy"},
        {"loss": {"name": "LabelAwareSmoothing", "head": 0.4}},  # smooths the labels without balancing the classes
        {"sampler": "InstanceSampler"},
        {"name": "RetrainMeta", "sampler": "MetaSampler"},  # learns its rates under the loss
        {"balance_twice": True},
    ],
)
def test_no_warning_if_one_part_balances_or_the_combination_is_allowed(changes):
    assert warnings_of(**changes) == []


def test_components_with_options_are_recognized():
    assert len(warnings_of(loss={"name": "LogitAdjustedLoss", "tau": 1.0})) == 1
    assert len(warnings_of(sampler={"name": "SquareRootSampler"})) == 1


def test_the_warnings_of_a_run_name_the_stage():
    double = Retrain(loss=Component("BalancedSoftmax"), sampler=Component("ClassBalancedSampler"))
    config = Config(stages=(Train(), Adjust(), double))
    (warning,) = stage_warnings(config)
    assert warning.startswith("stage 2 balances twice")
    assert stage_warnings(Config(stages=(Train(), Adjust()))) == []


def test_the_flag_of_every_component_states_whether_it_balances():
    blind = {name for name in losses.__all__ if not getattr(losses, name).balances}
    assert blind == {"CrossEntropy", "FocalLoss", "LabelAwareSmoothing"}
    assert {name for name in samplers.__all__ if not getattr(samplers, name).balances} == {
        "InstanceSampler",
        "MetaSampler",
        "TwoStreamSampler",
    }


@pytest.mark.parametrize("method", recipes.names("methods"))
def test_no_shipped_method_gives_a_warning(method):
    config = recipes.compose("digits-lt", method)
    untrained = config.stages[0].training_settings() is None  # the digits have no pretrained backbone
    assert [text for text in stage_warnings(config) if not (untrained and "with random weights" in text)] == []


def test_a_run_logs_the_warning_and_writes_it_to_its_result(tmp_path, caplog):
    changes = [{"training": {"epochs": 1}}, {"set": [("stages.0.sampler", "ClassBalancedSampler")]}]
    with caplog.at_level(logging.WARNING, logger="longtail"):
        fit(recipes.compose("digits-lt", "balanced-softmax", changes=changes), tmp_path, report=False)
    assert any(record.getMessage().startswith("stage 0 balances twice") for record in caplog.records)
    notes = json.loads((tmp_path / "result.json").read_text())["notes"]
    assert any("balances twice" in note for note in notes)


def plane_share_of_the_rarest(loss: torch.nn.Module, weights: torch.Tensor) -> float:
    """Return the share of the plane that a linear layer assigns to the rarest of three points.

    BALMS, supplement, Fig. 3: 10,000, 100 and 1 copies of three points.

    Args:
        loss: Loss of each example.
        weights: Weight of each point in training.
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


def test_a_loss_that_expects_cosines_refuses_other_heads(tmp_path):
    with pytest.raises(InputError, match=r"LDAMLoss expects cosine .* the model has a LinearHead; .* CosineHead"):
        fit(recipes.compose("digits-lt", "ce", changes=[{"loss": "LDAMLoss"}]), tmp_path / "run")
    scaled = [{"loss": "LDAMLoss", "model": {"head": {"name": "CosineHead", "scale": 16.0}}}]
    with pytest.raises(InputError, match=r"CosineHead \{'scale': 16.0\}"):
        fit(recipes.compose("digits-lt", "ce", changes=scaled), tmp_path / "run")
    assert not (tmp_path / "run").exists()
