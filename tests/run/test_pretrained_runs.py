"""Whole runs with pretrained, fine-tuned and adapted backbones on tiny images."""

import numpy as np
import pytest
import torch
from PIL import Image

from longtail.config import recipes
from longtail.config.schema import DataConfig
from longtail.data.formats.digits import load_digits_lt
from longtail.errors import InputError
from longtail.run import Run
from longtail.run.fit import fit
from longtail.run.resolve import changes_from, resolve
from longtail.training.context import Interrupted


@pytest.fixture(scope="module")
def digits():
    return load_digits_lt(DataConfig(), torch.device("cpu"))


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason='needs `pip install "longtail[transformers]"`')
    folder = tmp_path_factory.mktemp("dinov2")
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder)
    return folder


def config_of(recipe, folder, **training):
    model = {"backbone": f"hf/{folder}", "pretrained": True}
    changes = {"model": model, "training": {"epochs": 1, "augment": "none", **training}}
    return recipes.compose("digits-lt", "balanced-softmax", recipe, [changes])


@pytest.mark.parametrize("recipe", ["linear-probe", "finetune", "finetune-vit", "peft"])
def test_each_recipe_trains_and_its_run_predicts_without_the_source(recipe, dinov2, digits, tmp_path):
    run = fit(config_of(recipe, dinov2), tmp_path, data=digits, report=False)
    hidden = dinov2.rename(dinov2.with_name("hidden"))
    try:
        images = digits.test.images.batches(torch.arange(4)[None], None)
        pixels = [image.permute(1, 2, 0).numpy() for image in next(images)]
        found = Run.load(tmp_path).predict(pixels).probabilities
    finally:
        hidden.rename(dinov2)
    assert torch.allclose(found, run.predictions().logits[:4].softmax(1), atol=1e-4)
    assert run.result["backbone"]["weights"] == str(dinov2)


@pytest.mark.parametrize("adapter", ["AdaptFormer", "LoRA"])
def test_an_interrupted_adapter_stage_resumes_with_the_same_bits(adapter, dinov2, digits, tmp_path, monkeypatch):
    if adapter == "LoRA":
        pytest.importorskip("peft")
    change = {"set": [("stages.0.adapter", adapter)]}
    config = recipes.typed(recipes.apply(recipes.to_mapping(config_of("peft", dinov2, epochs=2)), change))
    fit(config, tmp_path / "whole", data=digits, report=False)

    import longtail.training.loop as loop

    save = loop._finish_epoch

    def stop_after_the_first(state, *arguments):
        state.context.stop.set()
        save(state, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_finish_epoch", stop_after_the_first)
        with pytest.raises(Interrupted):
            fit(config, tmp_path / "parts", data=digits, report=False)
    fit(config, tmp_path / "parts", data=digits, resume=True, report=False)
    whole, parts = (Run.load(tmp_path / name).checkpoint()["model"] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any("down" in name for name in whole) == (adapter == "AdaptFormer")
    assert not any("lora" in name for name in whole)


@pytest.fixture
def photos(tmp_path):
    for label, count in (("a", 9), ("b", 6)):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(index).integers(0, 255, (70, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def test_the_size_and_the_recipe_follow_the_backbone(photos, dinov2):
    (dinov2 / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "size": {"height": 72, "width": 72}}')
    resolved = resolve(str(photos), "ce", None, changes_from({"backbone": f"hf/{dinov2}"}))
    assert resolved.config.data.image_size == 72
    assert resolved.config.recipe == "finetune-vit"
    assert resolved.config.model.pretrained
    given = resolve(str(photos), "ce", None, changes_from({"backbone": f"hf/{dinov2}", "image_size": 80}))
    assert given.config.data.image_size == 80


def test_a_solved_probe_refuses_methods_that_set_the_training(dinov2):
    with pytest.raises(InputError, match="linear-probe solves a head for a loss, and the method sets `mixing`"):
        recipes.compose("digits-lt", "mixup", "linear-probe")


def test_class_means_need_a_cosine_head(digits, tmp_path):
    change = {"training": {"epochs": 1}, "set": [("stages.0.head_start", "class_means")]}
    with pytest.raises(InputError, match=r'"class_means" needs a CosineHead, got a LinearHead'):
        fit(recipes.compose("digits-lt", "ce", changes=[change]), tmp_path / "run", data=digits)
    assert not (tmp_path / "run").exists()
