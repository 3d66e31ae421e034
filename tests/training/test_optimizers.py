"""Optimizers and groups of parameters, against arithmetic by hand, the groups of timm and the SGD of torch."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from longtail.component import Component
from longtail.config.training import OptimizerConfig
from longtail.errors import InputError
from longtail.losses import CrossEntropy
from longtail.models import LinearHead, resnet20, small_net
from longtail.models.classifier import Classifier
from longtail.models.sources import build_backbone
from longtail.training.optimizers import SGD, build_optimizer, layers_of, set_learning_rate
from longtail.training.step import Step

OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True, "fused": True}
SCRIPT = """
import sys, torch
from longtail.training.optimizers import SGD
net = torch.nn.Linear(3, 2)
optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
net(torch.ones(1, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad(set_to_none=True)
optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
assert torch.compile(lambda x: x * 2, backend="eager")(torch.ones(2)).tolist() == [2, 2]
torch.optim.SGD(net.parameters(), lr=0.1).step()
"""


def step_of(backbone: nn.Module) -> Step:
    return Step(Classifier(backbone, LinearHead(backbone.embedding_dim, 3)), CrossEntropy([5, 3, 2]))


def group_of(optimizer, parameter):
    (group,) = [group for group in optimizer.param_groups if any(each is parameter for each in group["params"])]
    return group


def test_the_default_is_one_group_in_the_order_of_the_parameters():
    step = step_of(small_net())
    (group,) = build_optimizer(step, OptimizerConfig()).param_groups
    assert [id(each) for each in group["params"]] == [id(each) for each in step.parameters()]
    assert "factor" not in group


def test_adamw_takes_the_step_of_torch():
    torch.manual_seed(0)
    step = step_of(small_net(width=4))
    options = OptimizerConfig(kind="adamw", lr=0.01, weight_decay=0.1, beta2=0.9, eps=1e-6)
    before = {name: each.detach().clone() for name, each in step.named_parameters()}
    optimizer = build_optimizer(step, options)
    step(torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    for name, each in step.named_parameters():
        # the first step of Adam divides the gradient by its own size
        moved = before[name] * (1 - 0.01 * 0.1) - 0.01 * each.grad / (each.grad.abs() + 1e-6)
        assert torch.allclose(each, moved, atol=1e-6), name


def test_norms_and_biases_do_not_decay_if_so_set():
    step = step_of(resnet20(width=4))
    optimizer = build_optimizer(step, OptimizerConfig(decay_norms_and_biases=False))
    decays = {name for name, each in step.named_parameters() if group_of(optimizer, each)["weight_decay"] > 0}
    assert decays == {name for name, each in step.named_parameters() if each.ndim > 1}


def test_head_and_layers_have_their_own_rates():
    step = step_of(resnet20(width=4))
    optimizer = build_optimizer(step, OptimizerConfig(kind="adamw", lr=0.1, head_lr=10, layer_decay=0.5))
    net = step.model.backbone
    set_learning_rate(optimizer, 0.1)
    assert group_of(optimizer, step.model.head.weight)["lr"] == pytest.approx(1.0)
    # stem and three stages of three blocks are ten layers; the last one is next to the head
    assert layers_of(net)[1] == 10
    assert group_of(optimizer, net.stage3[2].conv1.weight)["lr"] == pytest.approx(0.05)
    assert group_of(optimizer, net.stem[0].weight)["lr"] == pytest.approx(0.1 * 0.5**10)


def test_layers_learn_one_after_another():
    step = step_of(resnet20(width=4))
    optimizer = build_optimizer(step, OptimizerConfig(unfreeze=0.5))
    net = step.model.backbone

    def learning(progress: float) -> list[bool]:
        set_learning_rate(optimizer, 0.1, progress)
        return [
            group_of(optimizer, each)["lr"] > 0
            for each in (step.model.head.weight, net.stage3[2].conv1.weight, net.stem[0].weight)
        ]

    assert learning(0) == [True, False, False]
    assert learning(0.06) == [True, True, False]
    assert learning(0.5) == [True, True, True]


def test_a_learning_rate_on_the_device_stays_in_place():
    optimizer = build_optimizer(step_of(small_net()), OptimizerConfig(head_lr=2))
    lr = torch.tensor(0.1)
    set_learning_rate(optimizer, lr)
    tensors = [group["lr"] for group in optimizer.param_groups]
    lr.fill_(0.2)
    set_learning_rate(optimizer, lr)
    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, tensors, strict=True))
    assert sorted(float(tensor) for tensor in tensors) == pytest.approx([0.2, 0.4])


def test_the_layers_of_timm_are_those_that_it_states():
    pytest.importorskip("timm")
    layers, depth = layers_of(build_backbone(Component("test_vit"), pretrained=False))
    assert layers["net.patch_embed.proj.weight"] == layers["net.cls_token"] == 0
    assert layers["net.blocks.0.attn.qkv.weight"] == 1
    assert max(layers.values()) == depth - 1


def test_position_embeddings_do_not_decay():
    pytest.importorskip("timm")
    step = step_of(build_backbone(Component("test_vit"), pretrained=False))
    optimizer = build_optimizer(step, OptimizerConfig(decay_norms_and_biases=False))
    assert group_of(optimizer, step.model.backbone.net.pos_embed)["weight_decay"] == 0


def test_blocks_within_a_module_are_layers():
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    backbone = nn.Module()
    backbone.net = transformers.Dinov2Model(config)
    layers, depth = layers_of(backbone)
    assert depth == 4  # embeddings, two blocks, the last normalization
    assert layers["net.embeddings.cls_token"] == 0
    assert layers["net.layernorm.weight"] == 3


@pytest.mark.parametrize(
    "options", [{"head_lr": 0}, {"layer_decay": 1.1}, {"unfreeze": 1.0}, {"beta1": 1.0}, {"eps": 0}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InputError):
        OptimizerConfig(**options)


def trained(kind: type[torch.optim.SGD]) -> tuple[torch.Tensor, dict]:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = kind(net.parameters(), **OPTIONS)
    for _ in range(5):
        net(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return net.weight, optimizer.state_dict()


def test_weights_and_state_equal_those_of_torch():
    (ours, state), (theirs, expected) = trained(SGD), trained(torch.optim.SGD)
    assert torch.equal(ours, theirs)
    assert state["param_groups"] == expected["param_groups"]
    for index, values in expected["state"].items():
        assert torch.equal(state["state"][index]["momentum_buffer"], values["momentum_buffer"])


def test_a_step_does_not_import_the_compiler_which_still_works_afterwards():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
