"""The interface of a backbone, and its submodules by name."""

import pytest
import torch
from torch import nn

from longtail.errors import InputError
from longtail.models import resnet20, small_net
from longtail.models.base import Backbone, FeatureBackbone, as_backbone, channels_at, find_stage
from longtail.models.pretrained import TorchvisionBackbone


@pytest.mark.parametrize(
    ("net", "size"),
    [(resnet20(), 32), (small_net(), 8), (TorchvisionBackbone("resnet18", pretrained=False), 64)],
    ids=["resnet20", "small_net", "torchvision"],
)
def test_the_last_stage_makes_what_the_mean_is_taken_of(net, size):
    net.eval()
    maps = []
    with torch.no_grad(), find_stage(net, None).register_forward_hook(lambda *call: maps.append(call[-1])):
        embeddings = net(torch.rand(2, 3, size, size))
    torch.testing.assert_close(maps[0].mean(dim=(2, 3)), embeddings)
    assert channels_at(net, None, size) == embeddings.shape[1]


@pytest.mark.parametrize(("name", "channels"), [("stem", 16), ("stage1", 16), ("stage2", 32), ("stage3.0", 64)])
def test_channels_of_any_part(name, channels):
    net = resnet20()
    assert channels_at(net, name, 32) == channels
    assert net.training
    assert int(net.stem[1].num_batches_tracked) == 0  # the blank image changed no statistics


def test_an_unknown_part_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"there is no submodule of the backbone 'stag2'.*stage2"):
        find_stage(resnet20(), "stag2")
    with pytest.raises(InputError, match="no submodule of the backbone '0'"):  # YAML reads 0 as a number
        find_stage(resnet20(), 0)


def test_a_net_that_does_not_say_where_its_last_maps_are_needs_a_name():
    net = TorchvisionBackbone("vit_b_16", pretrained=False)
    with pytest.raises(InputError, match="set `at` to the submodule"):
        find_stage(net, None)


def test_a_part_that_runs_in_no_pass_or_gives_no_maps_is_refused():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Unflatten(1, (3, 16)), torch.nn.Linear(16, 2))
    with pytest.raises(InputError, match="a transfer needs a submodule that runs once"):
        channels_at(net, "1", 4)


def test_feature_backbone_it_gives_back_what_it_is_given_and_has_nothing_to_learn():
    embeddings_BD = torch.randn(3, 4)
    backbone = FeatureBackbone(embedding_dim=4)
    assert backbone(embeddings_BD) is embeddings_BD
    assert (backbone.embedding_dim, list(backbone.state_dict())) == (4, [])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 8, 8), (4,)])
def test_feature_backbone_anything_else_is_refused(shape):
    with pytest.raises(InputError, match=r"takes embeddings of shape \(B, 4\)") as refused:
        FeatureBackbone(embedding_dim=4)(torch.zeros(shape))
    assert "for images, use the run that computed the features" in str(refused.value)


class Average(nn.Module):
    """A custom backbone: a plain module with an embedding dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding_dim = 3
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images_BCHW):
        return self.scale * images_BCHW.mean(dim=(2, 3))


class Dimensionless(nn.Module):
    """A backbone without an embedding dimension."""


class Unset(Backbone):
    """A backbone that does not set its attributes."""

    def forward(self, images_BCHW):
        return images_BCHW.flatten(1)


@pytest.mark.parametrize(
    "backbone",
    [resnet20(), small_net(), FeatureBackbone(embedding_dim=2), TorchvisionBackbone("resnet18", pretrained=False)],
    ids=["resnet20", "small_net", "features", "torchvision"],
)
def test_every_backbone_has_the_attributes_of_the_base_class(backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.embedding_dim >= 1
    assert backbone.width >= 1
    assert backbone.takes_images == (not isinstance(backbone, FeatureBackbone))


def test_a_plain_module_is_completed_and_keeps_its_parameters():
    own = Average()
    before = list(own.state_dict())
    backbone = as_backbone(own)
    assert backbone is own
    assert (backbone.width, backbone.last_stage, backbone.takes_images) == (3, None, True)
    assert list(backbone.state_dict()) == before
    own.width = 7
    assert as_backbone(own).width == 7


@pytest.mark.parametrize("cls", [Dimensionless, Unset])
def test_a_backbone_without_embedding_dimension_is_refused(cls):
    with pytest.raises(InputError, match=f"{cls.__name__} has no attribute `embedding_dim`; set it to"):
        as_backbone(cls())


@pytest.mark.parametrize("dim", [0, -1, 2.0, "3", True])
def test_an_embedding_dimension_that_is_no_positive_integer_is_refused(dim):
    own = Average()
    own.embedding_dim = dim
    with pytest.raises(InputError, match="`embedding_dim` of Average must be an integer >= 1, got"):
        as_backbone(own)


def test_the_base_class_cannot_be_used_itself():
    with pytest.raises(TypeError, match="abstract"):
        Backbone()
