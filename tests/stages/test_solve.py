"""The stage that solves a linear head on fixed features."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from longtail import losses
from longtail.component import Component
from longtail.config import recipes
from longtail.errors import InputError
from longtail.models.classifier import LINEAR
from longtail.run.fit import fit
from longtail.stages import Solve
from longtail.training.context import Interrupted
from longtail.training.features import features_of


def test_the_head_is_the_optimum_on_the_features_of_the_backbone(model, data, context):
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    solved = Solve(loss=Component("CrossEntropy"), l2=0.1, tolerance=1e-7)(model, data, context)
    assert solved.head_component == LINEAR
    assert all(torch.equal(value, before[name]) for name, value in solved.backbone.state_dict().items())
    features = features_of(solved, data, "train", context)
    std_D = features.embeddings_ND.double().std(dim=0, correction=0)
    loss = losses.CrossEntropy(data.class_counts)(solved.head(features.embeddings_ND), features.targets_N)
    penalty = 0.05 * (solved.head.weight * std_D).square().sum()  # on the weights of standardized features
    slopes = torch.autograd.grad(loss + penalty, [solved.head.weight, solved.head.bias])
    assert max(float((slopes[0] / std_D).abs().max()), float(slopes[1].abs().max())) < 1e-4
    row = json.loads(context.log.path.read_text())
    assert set(row) >= {"stage", "epoch", "loss", "seconds", "val"}


def test_the_choice_is_made_on_the_validation_split_and_stored(model, data, context):
    Solve()(model, data, context)
    chosen = context.chosen["Solve"]
    scores = chosen["held_out"]
    assert max(scores, key=scores.get) == f"{chosen['l2']:g}"
    assert chosen["gradient"] <= 5e-4
    json.dumps(context.chosen)


def test_without_a_validation_split_a_part_of_the_training_images_decides(model, data, context):
    without = dataclasses.replace(data, val=None)
    Solve(candidates=(0.1, 0.01))(model, without, context)
    assert len(context.chosen["Solve"]["held_out"]) == 2


def test_the_head_before_does_not_matter(model, data, context):
    first = Solve(l2=0.1)(model, data, context).head.weight.clone()
    torch.nn.init.normal_(model.head.weight)
    assert torch.equal(first, Solve(l2=0.1)(model, data, context).head.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "FocalLoss"}, "must be convex in the logits .* got FocalLoss"),
        ({"loss": "LDAMLoss"}, "LDAMLoss expects cosine similarities"),
    ],
)
def test_a_loss_without_one_optimum_of_a_linear_head_is_refused(model, data, settings, message):
    with pytest.raises(InputError, match=message):
        Solve(loss=Component(settings["loss"])).prepare(model, data, LINEAR)


def test_no_candidates_are_refused():
    with pytest.raises(InputError, match="`candidates` must hold at least one"):
        Solve(candidates=())


def test_a_request_to_stop_is_followed_within_the_solution(model, data, context):
    context.stop.set()
    with pytest.raises(Interrupted):
        Solve()(model, data, context)


def clusters(path, num: int) -> str:
    """Write a feature file with three overlapping classes, and return its path."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat([0, 1, 2], [num, num // 4, num // 10]), np.arange(150) % 3])
    embeddings = 30 + 5 * rng.standard_normal((len(labels), 12)) + 6 * np.eye(12)[labels]
    part = np.where(np.arange(len(labels)) < len(labels) - 150, "train", "test")
    np.savez(path, embeddings=embeddings.astype(np.float32), labels=labels, part=part)
    return str(path)


@pytest.mark.parametrize("method", ["balanced-softmax-solved", "la-posthoc-solved"])
def test_a_run_on_a_feature_file(method, tmp_path):
    changes = [{"data": {"name": clusters(tmp_path / "f.npz", 200), "val_share": 0.2}}]
    config = recipes.compose("own-features", method, changes=[*changes, {"model": {"backbone": {
        "name": "FeatureBackbone", "embedding_dim": 12}}}])  # fmt: skip
    run = fit(config, tmp_path / "run", report=False)
    assert run.scores.balanced > 60
    assert run.result["chosen"]["Solve"]["l2"] > 0


def test_the_recipes_compose():
    for method in ("ce-solved", "weighted-ce-solved", "balanced-softmax-solved", "bs-decoupled-solved"):
        assert isinstance(recipes.compose("digits-lt", method).stages[-1], Solve)
