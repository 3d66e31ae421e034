"""The classifier: pixel normalization, replaced heads, and checkpoints that contain them."""

from types import SimpleNamespace

import pytest
import torch

from longtail.component import Component
from longtail.config.convert import to_mapping
from longtail.config.schema import ModelConfig
from longtail.errors import InputError
from longtail.models import LinearHead, small_net
from longtail.models.classifier import (
    LINEAR,
    STATISTICS,
    Classifier,
    build_classifier,
    build_head,
    describe_backbone,
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


@pytest.mark.parametrize("statistics", STATISTICS)
def test_normalization_is_one_multiplication_and_one_addition(statistics):
    classifier = Classifier(small_net(), LinearHead(64, 10), *STATISTICS[statistics])
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        images = levels.contiguous(memory_format=memory_format)
        normalized = classifier.normalized(images)
        assert torch.equal(normalized, images * classifier.scale_C11 + classifier.shift_C11)
        assert torch.equal(classifier.normalized(images.float()), normalized)
        assert torch.equal(images, levels)


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


class Plain(torch.nn.Module):
    """A custom backbone, selected by its dotted name."""

    def __init__(self, *, dim: int = 3) -> None:
        super().__init__()
        if dim:
            self.embedding_dim = dim

    def forward(self, images_BCHW):
        return images_BCHW.mean(dim=(2, 3))


DATA = SimpleNamespace(class_names=("a", "b"), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def test_a_backbone_of_ones_own_needs_only_an_embedding_dimension():
    config = ModelConfig(backbone=Component(f"{__name__}.Plain"))
    built = build_classifier(config, DATA, 0)
    assert built(images()).shape == (2, 2)
    name, parameters = f"{__name__}.Plain", 3 * 2 + 2
    expected = {"name": name, "parameters": parameters, "width": 3, "pretrained": False}
    assert describe_backbone(config, built) == expected
    assert list(built.state_dict()) == ["scale_C11", "shift_C11", "head.weight", "head.bias"]


def test_a_backbone_without_embedding_dimension_is_refused_before_training():
    config = ModelConfig(backbone=Component(f"{__name__}.Plain", {"dim": 0}))
    with pytest.raises(InputError, match="Plain has no attribute `embedding_dim`"):
        build_classifier(config, DATA, 0)


def test_equal_seeds_build_equal_models_and_leave_the_global_random_state():
    before = torch.get_rng_state()
    first, again, other = (build_classifier(CONFIG, DATA, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, first.values(), again.values()))
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize(("normalize", "mean"), [("data", 0.5), ("cifar10", 0.4914), ("imagenet", 0.485)])
def test_pixel_statistics_are_those_of_the_data_or_fixed(normalize, mean):
    built = build_classifier(ModelConfig(backbone=CONFIG.backbone, normalize=normalize), DATA, 0)
    found = -built.shift_C11 / (255 * built.scale_C11)
    assert float(found[0]) == pytest.approx(mean)
