"""Conversion of configurations to plain data and back, and invalid settings."""

import math
from dataclasses import dataclass

import pytest

import longtail.losses as losses
from longtail.component import Component, find_class, keyword_options
from longtail.config.convert import from_mapping, to_mapping
from longtail.config.schema import Config, OptimizerConfig, TrainingConfig
from longtail.errors import InputError


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"seed": 3, "data": {"name": "cifar10-lt", "imbalance_factor": 50}},
        {"stages": ["Train", {"name": "Train", "loss": {"name": "BalancedSoftmax", "power": 0.25}}]},
        {"model": {"backbone": {"name": "resnet32", "width": 64}, "normalize": "imagenet"}},
    ],
)
def test_to_mapping_is_the_inverse_of_from_mapping(mapping):
    config = from_mapping(Config, mapping)
    assert from_mapping(Config, to_mapping(config)) == config


def test_a_component_is_a_name_or_a_name_with_options():
    assert from_mapping(Component, "CrossEntropy") == Component("CrossEntropy")
    assert from_mapping(Component, {"name": "X", "a": 1}) == Component("X", {"a": 1})
    assert to_mapping(Component("X")) == "X"
    assert to_mapping(Component("X", {"a": 1})) == {"name": "X", "a": 1}


def test_numbers_that_yaml_reads_as_strings_are_converted():
    assert from_mapping(OptimizerConfig, {"weight_decay": "2e-4"}).weight_decay == 2e-4
    assert from_mapping(OptimizerConfig, {"lr": 1}).lr == 1.0


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"sed": 1}, "no setting 'sed'; did you mean seed"),
        ({"data": {"nam": "x"}}, "no setting of data 'nam'; did you mean name"),
        ({"seed": "one"}, "`seed` must be an integer, got 'one'"),
        ({"seed": True}, "`seed` must be an integer, got True"),
        ({"data": "digits-lt"}, "`data` must be a mapping"),
        ({"protocol": "best"}, "`protocol` must be one of honest, paper"),
        ({"stages": "Train"}, "`stages` must be a list"),
        ({"stages": [{"loss": "x"}]}, r"stages\.0`? must be a name"),
        ({"data": {"imbalance_factor": "many"}}, "`data.imbalance_factor` must be a number"),
        ({"data": {"workers": -1}}, "data: `workers` must be >= 0, got -1"),
        ({"data": {"image_size": 0}}, "data: `image_size` must be >= 1, got 0"),
    ],
)
def test_bad_settings_are_refused_by_name(mapping, words):
    with pytest.raises(InputError, match=words):
        from_mapping(Config, mapping)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "`epochs` must be >= 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be >= 1, got 0"),
        ({"optimizer": {"lr": 0}}, "optimizer: `lr` must be > 0, got 0.0"),
        ({"ema": 1.0}, "`ema` must be > 0 and < 1, got 1.0"),
    ],
)
def test_impossible_training_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        from_mapping(TrainingConfig, settings)


def test_build_gives_the_options_to_the_class():
    loss = Component("BalancedSoftmax", {"power": 0.25}).build(losses, [90, 10])
    assert isinstance(loss, losses.BalancedSoftmax)
    assert math.isclose(float(loss.shift_C[1]), 0.25 * math.log(10 / 90), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (Component("BalancedSoftmx"), "no loss 'BalancedSoftmx'; did you mean BalancedSoftmax"),
        (Component("BalancedSoftmax", {"pwer": 1}), "no option of BalancedSoftmax 'pwer'; did you mean power"),
        (Component("nowhere.Loss"), "cannot import 'nowhere.Loss'"),
        (Component("math.no_such"), "cannot import 'math.no_such'"),
    ],
)
def test_unknown_components_and_options_name_the_nearest(component, words):
    with pytest.raises(InputError, match=words):
        component.build(losses, [90, 10])


def test_a_class_that_does_not_take_the_counts_is_refused_in_plain_words():
    with pytest.raises(InputError, match=r"cannot build fractions\.Fraction .* takes the class counts first"):
        Component("fractions.Fraction").build(losses, [90, 10])


def test_contract_options_count_as_options():
    assert {"power", "reduction", "ignore_index", "absent"} == set(keyword_options(losses.BalancedSoftmax))


def test_classes_of_anyone_are_found_by_their_dotted_path():
    assert find_class("fractions.Fraction", losses).__name__ == "Fraction"


def test_optional_and_nested_dataclasses_are_read():
    @dataclass(frozen=True)
    class Outer:
        inner: OptimizerConfig | None = None

    assert to_mapping(Outer(OptimizerConfig()))["inner"]["lr"] == 0.1
