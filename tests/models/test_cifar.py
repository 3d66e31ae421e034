"""The small networks: published size of the CIFAR ResNet, and a slow reference of its shortcut."""

import pytest
import torch
from torch import nn

from longtail.models import LinearHead, resnet20, resnet32
from longtail.models.cifar import BasicBlock


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_resnet32_with_a_head_of_100_classes_has_the_published_size():
    assert count(resnet32(), LinearHead(64, 100)) == 470_004


def test_layers_are_as_many_as_the_name_says():
    for net, depth in ((resnet20(), 20), (resnet32(), 32)):
        assert sum(isinstance(module, nn.Conv2d) for module in net.modules()) == depth - 1  # the head is the last layer


def test_width_64_is_the_larger_net_of_the_same_name():
    net = resnet32(width=64)
    assert net.embedding_dim == 256
    assert 7.3e6 < count(net, LinearHead(256, 100)) < 7.5e6


def test_the_embedding_is_the_mean_of_the_last_maps():
    net, maps = resnet20(width=4).eval(), []
    net.stage3.register_forward_hook(lambda *arguments: maps.append(arguments[2]))
    embedding = net(torch.randn(2, 3, 32, 32))
    assert maps[0].shape == (2, 16, 8, 8)
    torch.testing.assert_close(embedding, maps[0].mean(dim=(2, 3)))


@pytest.mark.parametrize("size", [6, 7])
def test_option_a_shortcut_takes_every_second_pixel_and_adds_empty_channels_on_both_sides(size):
    block, x = BasicBlock(4, 8, stride=2), torch.randn(2, 4, size, size)
    half = -(-size // 2)
    expected = torch.zeros(2, 8, half, half)
    for image in range(2):
        for channel in range(4):
            for row in range(half):
                for column in range(half):
                    expected[image, channel + 2, row, column] = x[image, channel, 2 * row, 2 * column]
    assert torch.equal(block._shortcut(x), expected)


def test_a_block_that_keeps_its_shape_adds_its_input():
    block, x = BasicBlock(4, 4, stride=1).eval(), torch.randn(2, 4, 6, 6)
    nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), x.relu())
