"""timm networks, with a fake of the interface of timm, and with timm itself if it is installed."""

import sys
import types

import pytest
import torch
from torch import nn

from longtail.errors import InputError
from longtail.models import hub
from longtail.models.pretrained import TimmBackbone


class Net(nn.Module):
    num_features = 6
    pretrained_cfg: dict = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # noqa: RUF012

    def forward(self, images_BCHW):
        return images_BCHW.mean((2, 3)).repeat(1, 2)


def stand_in(monkeypatch, *, problem: Exception | None = None, net: type[nn.Module] = Net) -> list:
    asked = []

    def create_model(name, **options):
        asked.append((name, options))
        if problem is not None:
            raise problem
        return net()

    timm = types.ModuleType("timm")
    timm.is_model = lambda name: name == "tiny_net"
    timm.list_models = lambda: ["tiny_net", "large_net"]
    timm.create_model = create_model
    timm.get_pretrained_cfg = lambda name: None
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setattr(hub, "_is_reachable", lambda endpoint: False)
    return asked


def test_it_asks_for_a_net_without_classifier(monkeypatch):
    asked = stand_in(monkeypatch)
    backbone = TimmBackbone(architecture="tiny_net", pretrained=True)
    assert asked == [("tiny_net", {"pretrained": True, "num_classes": 0, "dynamic_img_size": True})]
    assert backbone(torch.zeros(2, 3, 8, 8)).shape == (2, backbone.embedding_dim)
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_the_width_is_that_before_the_classifier(monkeypatch):
    stand_in(monkeypatch, net=type("Wider", (Net,), {"head_hidden_size": 9}))
    assert TimmBackbone(architecture="tiny_net").embedding_dim == 9


def test_a_misspelt_name_and_weights_that_can_not_be_had_are_refused(monkeypatch):
    stand_in(monkeypatch, problem=OSError("no network"))
    with pytest.raises(InputError, match="did you mean tiny_net"):
        TimmBackbone(architecture="tiny_nte")
    with pytest.raises(InputError, match=r"tiny_net: no network\..*timm/tiny_net.*set `pretrained` to false"):
        TimmBackbone(architecture="tiny_net", pretrained=True)


def test_without_timm_one_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r'pip install "longtail\[timm\]"'):
        TimmBackbone(architecture="resnet18")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_real_one_gives_embeddings_of_the_width_it_says(name):
    pytest.importorskip("timm")
    backbone = TimmBackbone(architecture=name).eval()
    assert backbone(torch.zeros(1, 3, 224, 224)).shape == (1, backbone.embedding_dim)
