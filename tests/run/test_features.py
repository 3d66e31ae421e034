"""Training of a head on features: equal to training on the images; settings that need images are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail.component import Component
from longtail.config import recipes
from longtail.config.convert import to_mapping
from longtail.config.schema import Config, DataConfig
from longtail.data.formats.digits import load_digits_lt
from longtail.data.formats.feature_dataset import MappedFeatures, load_feature_data
from longtail.data.formats.features import write_features
from longtail.errors import InputError
from longtail.run.fit import fit
from longtail.run.recommend import check_features, recommend_for_features
from longtail.run.resolve import resolve_names
from longtail.run.run import Run
from tests.cli.calling import call
from tests.data.helpers import blocks, made_up

CPU = torch.device("cpu")


def two_clouds(path: Path, views: int = 0) -> Path:
    """Write linearly separable features."""
    rows, embeddings, logits = made_up(views)
    embeddings[:, 0] = 4 * rows.labels_N.numpy() - 2
    write_features(path, rows, blocks(embeddings, logits))
    return path


def planned(path: Path, method: str, *changes: dict) -> Config:
    return resolve_names(str(path), method, None, [{"training": {"epochs": 3}}, *changes], CPU).config


@pytest.mark.parametrize("method", ["ce", "crt", "tau-norm", "ncm", "balms"])
def test_methods_of_one_and_two_stages_learn_from_features(tmp_path, method):
    config = planned(two_clouds(tmp_path / "f.npz"), method)
    assert (config.model.backbone.name, config.recipe) == ("FeatureBackbone", "features")
    assert config.data.name == str(tmp_path / "f.npz")
    run = fit(config, tmp_path / "run", report=method == "ce")
    assert run.scores.balanced == 100.0
    assert (tmp_path / "run" / "report.html").exists() == (method == "ce")
    trained = Run(tmp_path / "run").trained(CPU)
    data = load_feature_data(config.data)
    with torch.no_grad():
        logits = trained.model(next(data.test.images.batches(torch.arange(4)[None], None)))
    assert np.array_equal(logits, np.load(tmp_path / "run" / "predictions.npz")["logits"])


def test_the_head_learns_to_the_bit_what_it_learns_from_the_images(tmp_path):
    """Compare cRT on images with its second stage alone, on the features of the first, at the same stage index."""
    both = recipes.compose("digits-lt", "crt", changes=[{"training": {"epochs": 1}}])
    whole = fit(both, tmp_path / "whole", report=False)
    assert call("features", whole.folder, "--output", tmp_path / "f.npz") == 0
    retrain = replace(recipes.compose("digits-lt", "crt").stages[1], head=Component("LinearHead"))
    stages = [{"name": "Adjust", "method": "NearestClassMean"}, to_mapping(retrain)]
    alone = fit(planned(tmp_path / "f.npz", "crt", {"stages": stages}), tmp_path / "alone", report=False)
    logits = [np.load(run.folder / "predictions.npz")["logits"] for run in (whole, alone)]
    assert np.array_equal(*logits)


def test_augmented_views_are_used_if_there_are_some(tmp_path):
    data = load_feature_data(DataConfig(name=str(two_clouds(tmp_path / "f.npz", views=2))))
    recipe, changes, why = recommend_for_features(data.train.images)
    assert (recipe, changes["training"]) == ("own-features", {"augment": "views"})
    assert "2 augmented views" in why
    config = planned(tmp_path / "f.npz", "ce")
    assert config.stages[0].training.augment == "views"
    views = fit(config, tmp_path / "views", report=False)
    plain = fit(planned(tmp_path / "f.npz", "ce", {"training": {"augment": "none"}}), tmp_path / "plain", report=False)
    weights = [torch.load(run.folder / "checkpoint" / "last.pt")["model"]["head.weight"] for run in (views, plain)]
    assert not torch.equal(*weights)
    again = fit(config, tmp_path / "again", report=False)
    assert torch.equal(torch.load(again.folder / "checkpoint" / "last.pt")["model"]["head.weight"], weights[0])


def test_without_a_method_the_choice_is_explained(tmp_path):
    plan = resolve_names(str(two_clouds(tmp_path / "f.npz")), None, None, [], CPU)
    assert plan.config.method == "balanced-softmax"
    assert plan.reasons[1] == "a head alone: the data are features of 5 dimensions"


def test_a_run_on_other_features_is_not_resumed(tmp_path):
    config = planned(two_clouds(tmp_path / "f.npz"), "ce")
    fit(config, tmp_path / "run", report=False)
    two_clouds(tmp_path / "f.npz", views=1)
    with pytest.raises(InputError, match="trained on other images"):
        fit(config, tmp_path / "run", resume=True, report=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": {"backbone": "resnet32"}}, "remove `model.backbone` resnet32"),
        (
            {"training": {"augment": "crop-flip"}},
            "`stages.0.training.augment` must be none or views for features, got crop-flip",
        ),
        ({"set": [("stages.0.mixing", "Mixup")]}, "`stages.0.mixing` mixes images"),
        ({"set": [("stages.0.embedding_loss", "PullLoss")]}, "`stages.0.embedding_loss` trains a backbone"),
        ({"set": [("stages.0.transfer", "SemanticTransfer")]}, "`stages.0.transfer` changes the feature maps"),
    ],
)
def test_settings_that_need_images_are_refused(tmp_path, change, words):
    config = planned(two_clouds(tmp_path / "f.npz"), "ce", change)
    with pytest.raises(InputError) as refused:
        fit(config, tmp_path / "run")
    assert words in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_settings_that_need_features_are_refused_on_images():
    data = load_digits_lt(DataConfig(imbalance_factor=20), CPU)
    views = recipes.compose("digits-lt", "ce", changes=[{"training": {"augment": "views"}}])
    with pytest.raises(InputError, match=r"`stages\.0\.training\.augment` is for features only, got views"):
        check_features(views, data)
    backbone = {"model": {"backbone": {"name": "FeatureBackbone", "embedding_dim": 3}}}
    with pytest.raises(InputError, match="the data are images, which need a backbone"):
        check_features(recipes.compose("digits-lt", "ce", changes=[backbone]), data)
    check_features(recipes.compose("digits-lt", "mixup"), data)


def test_the_recommendation_contains_the_dimension():
    images = MappedFeatures(np.zeros((2, 64)), torch.tensor([[0, 1]]))
    assert recommend_for_features(images)[1] == {
        "model": {"backbone": {"name": "FeatureBackbone", "embedding_dim": 64}}
    }
