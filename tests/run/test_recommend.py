"""Defaults by imbalance and image size, with reasons."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail.config import recipes
from longtail.config.schema import DataConfig
from longtail.data.dataset import Dataset, Part, Split
from longtail.data.formats.digits import load_digits_lt
from longtail.data.inspect import inspect_data
from longtail.data.resident import ResidentImages
from longtail.run.fit import fit
from longtail.run.recommend import recommend, without_weights
from longtail.run.resolve import _compose, changes_from, resolve, resolve_names, same_but_method
from tests.data.helpers import noise, save

CPU = torch.device("cpu")


def data(size: int, counts: list[int]) -> Dataset:
    targets = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    part = Part(ResidentImages(torch.zeros(len(targets), 3, size, size, dtype=torch.uint8)), targets)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return Dataset("toy", names, part, None, part, Split("toy", "", len(targets)))


@pytest.mark.parametrize(
    ("counts", "method", "words"),
    [
        ([100, 60], "ce", "only 1.7 times"),
        ([100, 50], "balanced-softmax", "2 times the images of the least frequent one (100 and 50)"),
        ([500, 5], "balanced-softmax", "100 times"),
    ],
)
def test_the_method_follows_the_imbalance(counts, method, words):
    advice = recommend(data(8, counts), CPU)
    assert advice.method == method
    assert words in advice.reasons[0]


@pytest.mark.parametrize(
    ("size", "device", "recipe", "net"),
    [
        (16, "cpu", "own-tiny", "small_net"),
        (64, "cpu", "own-small", "resnet32"),
        (65, "cpu", "own-large", "resnet18"),
        (65, "cuda", "own-large", "resnet50"),
    ],
)
def test_the_model_follows_the_size_of_the_images_and_the_device(size, device, recipe, net):
    advice = recommend(data(size, [20, 5]), torch.device(device), routes=False)
    assert advice.data_recipe == recipe
    assert advice.reasons[1].startswith(net)
    assert ("slow there" in advice.reasons[1]) == (recipe == "own-large" and device == "cpu")
    config = recipes.compose(advice.data_recipe, advice.method, changes=[{"data": {"name": "toy"}}, advice.changes])
    assert config.model.backbone.name == net


def test_the_counts_are_those_before_the_validation_split_is_held_out():
    digits = load_digits_lt(DataConfig(val_share=0.1))
    found = inspect_data(digits)
    assert (found.images, found.held_out, max(found.counts), min(found.counts)) == (417, 41, 124, 6)
    assert "21 times the images of the least frequent one (124 and 6)" in recommend(digits, CPU).reasons[0]
    assert found.imbalance_factor == digits.group_counts.imbalance_factor


def test_a_small_data_set_is_trained_for_at_least_a_thousand_steps():
    advice = recommend(data(8, [40, 20]), CPU)
    assert advice.changes["training"]["epochs"] == 1000  # one step an epoch
    assert recommend(data(8, [4000, 400]), CPU).changes["training"]["epochs"] == 60


def test_without_weights_the_model_trains_longer_from_scratch():
    changes = without_weights({"model": {"backbone": "resnet18"}, "training": {"epochs": 20}})
    assert changes["model"] == {"backbone": "resnet18", "pretrained": False}
    assert changes["training"]["epochs"] == 60


def test_settings_of_the_user_override_the_recommendation():
    plan = resolve_names("digits-lt", None, None, [{"training": {"epochs": 3}, "model": {"backbone": "resnet20"}}], CPU)
    assert plan.config.stages[0].training.epochs == 3
    assert plan.config.model.backbone.name == "resnet20"
    assert plan.config.method == "balanced-softmax"


def test_the_other_method_of_a_comparison_differs_in_nothing_else():
    changes = [{"seed": 4, "training": {"epochs": 3}}]
    base = recipes.compose("digits-lt", "balanced-softmax", changes=changes)
    assert same_but_method(base, "ce") == recipes.compose("digits-lt", "ce", changes=changes)


def test_the_other_methods_head_is_the_methods_own():
    plain, ldam = recipes.compose("digits-lt", "ce"), recipes.compose("digits-lt", "ldam-drw")
    assert same_but_method(plain, "ldam-drw") == ldam
    assert same_but_method(ldam, "ce") == plain


def test_the_other_method_gets_the_training_recipes_settings_for_each_of_its_stages():
    base = recipes.compose("digits-lt", "ce", changes=[{"training": {"epochs": 3}}])
    assert same_but_method(base, "crt") == recipes.compose("digits-lt", "crt", changes=[{"training": {"epochs": 3}}])


def test_a_backbone_without_weights_is_trained_from_scratch_unless_weights_are_requested():
    chosen = {"model": {"backbone": "small_net"}}
    toy = {"data": {"name": "toy"}}
    requested, _ = _compose("own-large", "ce", None, [toy, {"model": {"pretrained": True}}, chosen])
    assert requested.model.pretrained  # refused when the model is built
    found = _compose("own-large", "ce", None, [toy, chosen])
    assert not found[0].model.pretrained
    assert found[1] == ("small_net from scratch: pretrained weights exist for torchvision, timm and transformers only",)
    assert _compose("own-large", "ce", None, [toy])[1] == ()


def test_new_runs_on_images_that_are_not_square_state_how_they_are_fitted(tmp_path: Path) -> None:
    for name, count in (("cat", 6), ("dog", 3)):
        for k in range(count):
            save(tmp_path / "photos" / name / f"{k}.png", noise(10 * k + count, 24, 16))
    photos = str(tmp_path / "photos")
    changes = changes_from({"epochs": 1, "device": "cpu"})
    new = resolve(photos, "ce", None, changes).config
    assert new.data.resize == "squash"
    assert resolve(photos, "ce", None, changes_from({"resize": "pad"})).config.data.resize == "pad"
    assert resolve(photos, None, None, changes_from({"set": [("data.resize", "crop")]})).config.data.resize == "crop"
    # a run of an older version, whose configuration has no such setting, is resumed as it was
    old = fit(replace(new, data=replace(new.data, resize="crop")), tmp_path / "old", report=False)
    assert resolve(photos, "ce", None, changes, resumed=old.folder).config == old.config
    squashed = fit(new, tmp_path / "new", report=False)
    assert squashed.trained().resize == "squash"
    assert old.trained().resize == "crop"
    files = sorted((tmp_path / "photos/cat").iterdir())
    by_path, by_pixels = squashed.predict(files), squashed.predict([Image.open(file) for file in files])
    assert torch.equal(by_path.probabilities, by_pixels.probabilities)
