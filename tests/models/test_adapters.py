"""Adapters: the function at the start, what learns, and merging."""

import pytest
import torch
from torch import nn

from longtail.component import Component
from longtail.errors import InputError
from longtail.models import CosineHead, LinearHead, adapters, small_net
from longtail.models.classifier import Classifier
from longtail.models.sources import build_backbone

IMAGES = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)


def vit() -> Classifier:
    pytest.importorskip("timm")
    backbone = build_backbone(Component("test_vit"), pretrained=False)
    return Classifier(backbone, LinearHead(backbone.embedding_dim, 3)).eval()


def component(name: str) -> Component:
    if name == "LoRA":
        pytest.importorskip("peft")
    return Component(name)


@pytest.mark.parametrize("name", ["AdaptFormer", "LoRA"])
def test_an_adapter_changes_nothing_at_first_and_alone_learns(name):
    model = vit()
    before = model.embed(IMAGES)
    old = {id(each) for each in model.backbone.parameters()}
    model.insert_adapter(component(name), 0)
    assert torch.allclose(model.eval().embed(IMAGES), before, atol=1e-6)
    learning = [each for each in model.backbone.parameters() if each.requires_grad]
    assert learning
    assert not any(id(each) in old for each in learning)


def test_lora_is_merged_into_a_plain_model():
    model = vit()
    names = list(model.state_dict())
    model.insert_adapter(component("LoRA"), 0)
    with torch.no_grad():
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.normal_(std=0.1)
    expected = model.eval()(IMAGES)
    model.finish_adapter()
    assert list(model.state_dict()) == names
    assert torch.allclose(model.eval()(IMAGES), expected, atol=1e-4)
    assert "adapter" not in model.structure()
    assert all(each.requires_grad for each in model.parameters())


def test_adaptformer_adds_the_bottleneck_of_the_paper():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))
    adapter = adapters.ParallelAdapter(mlp, width=2, scale=0.1)
    nn.init.normal_(adapter.up.weight)
    x = torch.randn(5, 4)
    low = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    expected = mlp(x) + 0.1 * (low @ adapter.up.weight.T + adapter.up.bias)
    assert torch.allclose(adapter(x), expected, atol=1e-6)


def test_adaptformer_is_rebuilt_from_a_checkpoint():
    model = vit()
    model.insert_adapter(Component("AdaptFormer", {"width": 3}), 0)
    model.finish_adapter()
    saved = {"model": model.state_dict(), **model.structure()}
    again = vit()
    again.load_saved(saved, 3)
    assert torch.equal(again.eval()(IMAGES), model.eval()(IMAGES))


@pytest.mark.parametrize("name", ["AdaptFormer", "LoRA"])
def test_a_convolutional_network_is_refused(name):
    with pytest.raises(InputError, match="vision transformer"):
        Classifier(small_net(), LinearHead(64, 3)).insert_adapter(component(name), 0)


def test_a_second_adapter_is_refused():
    model = vit()
    model.insert_adapter(Component("AdaptFormer"), 0)
    with pytest.raises(InputError, match="has an adapter already"):
        model.insert_adapter(Component("AdaptFormer"), 0)


def test_class_means_are_the_class_vectors():
    head = CosineHead(2, 3)
    third = head.weight[2].clone()
    head.start_from_means(torch.tensor([[2.0, 0.0], [0.0, 5.0], [1.0, 1.0]]), torch.tensor([0, 0, 1]))
    root = 0.5**0.5
    assert torch.allclose(head.weight[:2], torch.tensor([[root, root], [root, root]]))
    assert torch.equal(head.weight[2], third)
