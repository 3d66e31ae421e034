"""Recipes: every shipped combination resolves, equals its own YAML, and merges as documented."""

from pathlib import Path

import pytest
import yaml

from longtail.component import Component
from longtail.config import recipes
from longtail.config.schema import OptimizerConfig
from longtail.errors import InputError


@pytest.mark.parametrize("data", recipes.names("data"))
@pytest.mark.parametrize("method", recipes.names("methods"))
def test_every_pair_of_recipes_resolves_and_its_yaml_is_itself_a_recipe(data, method):
    config = recipes.compose(data, method)
    assert config.method == method
    assert recipes.typed(yaml.safe_load(recipes.to_yaml(config))) == config


@pytest.mark.parametrize("training", recipes.names("training"))
def test_every_training_recipe_resolves(training):
    assert recipes.compose("cifar100-lt", "ce", training).recipe == training


def test_the_ldam_recipe_is_the_published_one():
    training = recipes.compose("cifar100-lt", "ce").stages[0].training
    assert (training.epochs, training.batch_size, training.augment) == (200, 128, "crop-flip")
    assert training.optimizer == OptimizerConfig(lr=0.1, momentum=0.9, weight_decay=2e-4, nesterov=False)
    assert [200 * share for share in training.schedule.milestones] == [160, 180]
    assert (200 * training.schedule.warmup, training.schedule.gamma) == (5, 0.01)


def test_the_balms_recipe_is_the_published_one():
    training = recipes.compose("cifar100-lt", "ce", "balms").stages[0].training
    assert (training.iterations, training.batch_size, training.augment) == (13_000, 512, "autoaugment-cutout")
    assert training.schedule.warmup * 13_000 == pytest.approx(800, rel=0.01)
    peak = training.optimizer.lr
    assert (peak, peak * training.schedule.warmup_start) == (0.1, 0.05)


def test_requested_epochs_override_iterations():
    training = recipes.compose("cifar100-lt", "ce", "balms", [{"training": {"epochs": 3}}]).stages[0].training
    assert (training.epochs, training.iterations) == (3, None)


def test_custom_stages_take_the_settings_of_the_recipe():
    own = {"stages": [{"name": "Train", "loss": "CrossEntropy"}, {"name": "Retrain", "loss": "BalancedSoftmax"}]}
    config = recipes.compose("cifar100-lt", "ce", changes=[own])
    assert config.method == "custom"
    assert config.stages == recipes.compose("cifar100-lt", "bs-decoupled").stages
    with pytest.raises(InputError, match="`stages` must be a list"):
        recipes.compose("cifar100-lt", "ce", changes=[{"stages": {"name": "Train"}}])


def test_another_loss_by_set_makes_a_custom_method():
    changes = [{"set": [("stages.0.loss", "FocalLoss")]}]
    assert recipes.compose("digits-lt", "ce", changes=changes).method == "custom"
    changes = [{"set": [("stages.1.method.tau", 1.0)]}]
    assert recipes.compose("digits-lt", "tau-norm", changes=changes).method == "tau-norm"


def test_epochs_of_a_method_override_the_iterations_of_a_recipe():
    second = recipes.compose("cifar100-lt", "weight-balancing", "balms").stages[1].training
    assert (second.epochs, second.iterations) == (10, None)


def test_later_changes_win_and_training_reaches_every_train_stage():
    changes = [{"training": {"epochs": 3}}, {"training": {"epochs": 4}, "seed": 7}]
    config = recipes.compose("digits-lt", "ce", changes=changes)
    assert config.seed == 7
    assert config.stages[0].training.epochs == 4
    assert config.stages[0].training.batch_size == 64  # untouched


def test_another_loss_makes_a_custom_method():
    config = recipes.compose("digits-lt", "ce", changes=[{"loss": "BalancedSoftmax"}])
    assert (config.method, config.stages[0].loss) == ("custom-BalancedSoftmax", Component("BalancedSoftmax"))


def test_set_reaches_any_setting_and_gives_a_named_component_an_option():
    sets = [("stages.0.training.clip_norm", 1.0), ("model.head", "CosineHead"), ("model.head.scale", 30.0)]
    config = recipes.compose("digits-lt", "ce", changes=[{"set": sets}])
    assert config.stages[0].training.clip_norm == 1.0
    assert (config.model.head.name, config.model.head.options) == ("CosineHead", {"scale": 30.0})


def test_a_component_of_another_name_drops_the_old_options():
    base = {"head": {"name": "CosineHead", "scale": 30.0}}
    assert recipes.merge(base, {"head": {"name": "LinearHead"}}) == {"head": {"name": "LinearHead"}}
    assert recipes.merge(base, {"head": {"scale": 1.0}}) == {"head": {"name": "CosineHead", "scale": 1.0}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cifar1000-lt", "ce"), "no data set 'cifar1000-lt'; did you mean cifar100-lt"),
        (("digits-lt", "balanced-sofmax"), "no method 'balanced-sofmax'; did you mean balanced-softmax"),
        (("digits-lt", "ce", "ldm"), "no training recipe 'ldm'; did you mean ldam"),
        (("digits-lt", "ce", None, [{"training": {"epoch": 1}}]), "'epoch'; did you mean epochs"),
        (("digits-lt", "ce", None, [{"loss": "Crossentropy"}]), "did you mean CrossEntropy"),
        (("digits-lt", "ce", None, [{"set": [("stages.4.loss", "x")]}]), "no item '4' in a list of 1"),
        (("digits-lt", "ce", None, [{"set": [("seed.deep", 1)]}]), "`seed` must be an integer"),
        (("digits-lt", "ce", None, [{"set": [("stages.0.name", "Trian")]}]), "no stage 'Trian'; did you mean Train"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(arguments, words):
    with pytest.raises(InputError, match=words):
        recipes.compose(*arguments)


@pytest.mark.parametrize("content", ["- a list", "a: [unclosed", "just words"])
def test_a_file_without_a_configuration_is_refused(tmp_path: Path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"mine\.yaml"):
        recipes.read_file(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        recipes.read_file(tmp_path / "none.yaml")
