"""The model: pixels, heads that stages replace, checkpoints that bring them along."""

import pytest
import torch

from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import ModelConfig
from longtail.errors import InputError
from longtail.models import LinearHead, small_net
from longtail.models.classifier import (
    LINEAR,
    Classifier,
    build_head,
    fresh_head,
    head_class,
    restore_classifier,
)

COSINE = Component("CosineHead", {"scale": 3.0})
CONFIG = ModelConfig(backbone=Component("small_net", {"width": 2}))


def model(head: Component = LINEAR) -> Classifier:
    torch.manual_seed(0)
    plain = Classifier(small_net(width=2), LinearHead(4, 3))
    plain.replace_head(head, build_head(head, plain, 3))
    return plain.eval()


def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_pixels_are_centred_by_mean_and_standard_deviation():
    seen = []
    net = Classifier(small_net(width=2), LinearHead(4, 3), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    net.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    net(images())
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (images().float() / 255 - mean) / std)


@pytest.mark.parametrize("head", [LINEAR, COSINE, Component("DisAlignHead"), Component("LWSHead")])
def test_a_checkpoint_brings_its_head_whatever_the_configuration_says(head):
    trained = model(head)
    saved = {"model": trained.state_dict(), "head": to_mapping(trained.head_component)}
    restored = restore_classifier(CONFIG, 3, saved)
    assert restored.head_component == head
    assert type(restored.head) is type(trained.head)
    assert torch.equal(restored(images()), trained(images()))


def test_a_checkpoint_that_says_nothing_of_a_head_has_the_configurations():
    trained = model(COSINE)
    config = ModelConfig(backbone=CONFIG.backbone, head=COSINE)
    assert torch.equal(restore_classifier(config, 3, {"model": trained.state_dict()})(images()), trained(images()))


def test_a_fresh_head_depends_on_its_seed_alone():
    net = model()
    first = fresh_head(LINEAR, net, 3, 0, 1).weight
    torch.rand(5)
    assert torch.equal(fresh_head(LINEAR, net, 3, 0, 1).weight, first)
    assert not torch.equal(fresh_head(LINEAR, net, 3, 0, 2).weight, first)


def test_a_fresh_head_leaves_the_global_random_state():
    net = model()
    before = torch.get_rng_state()
    fresh_head(LINEAR, net, 3, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (Component("CosinHead"), "there is no head 'CosinHead'; did you mean CosineHead"),
        (Component("small_net"), "there is no head 'small_net'"),
        (Component("CosineHead", {"scales": 1.0}), "no option of CosineHead 'scales'; did you mean scale"),
    ],
)
def test_a_head_that_does_not_exist_is_refused_by_name(component, words):
    with pytest.raises(InputError, match=words):
        head_class(component)
