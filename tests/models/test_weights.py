"""Weights from files: reading, matching by names, prefixes and position, and refusals."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from longtail.component import Component
from longtail.errors import InputError
from longtail.models import resnet20
from longtail.models.sources import build_backbone
from longtail.models.weights import load_weights, read_weights


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)


def state_of(net: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor + 1 for name, tensor in net.state_dict().items()}


def same(net: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    own = [tensor for name, tensor in net.state_dict().items() if "num_batches" not in name]
    theirs = [tensor for name, tensor in state.items() if "num_batches" not in name]
    return all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "encoder.", "module.model.", "backbone.net."])
def test_prefixes_are_removed(prefix):
    net = Net()
    state = state_of(net, prefix)
    loaded = load_weights(net, {**state, f"{prefix}fc.weight": torch.ones(2)}, "file")
    assert same(net, state)
    assert loaded.left_out == (f"{prefix}fc.weight",)


def test_a_head_without_the_prefix_is_left_out():
    net = Net()
    state = state_of(net, "backbone.")
    loaded = load_weights(net, {**state, "head.weight": torch.ones(2), "scale_C11": torch.ones(3)}, "file")
    assert same(net, state)
    assert loaded.left_out == ("head.weight",)


def test_other_names_in_the_same_order_are_matched_by_position():
    net = Net()
    state = {f"_{name.replace('.', '_0.')}": tensor for name, tensor in state_of(net).items()}
    assert load_weights(net, {**state, "_fc.bias": torch.ones(1)}, "file").how == "position"
    assert same(net, state)


def test_an_order_that_swaps_tensors_of_one_shape_is_refused():
    state = {f"_{name.replace('.', '_0.')}": tensor for name, tensor in state_of(Net()).items()}
    names = list(state)
    first, second = names.index("_bn_0.weight"), names.index("_bn_0.bias")
    names[first], names[second] = names[second], names[first]
    with pytest.raises(InputError, match=r"conv\.weight: missing in the file"):
        load_weights(Net(), {name: state[name] for name in names}, "file")


def test_a_mismatch_names_ten_differences():
    state = resnet20().state_dict()
    with pytest.raises(InputError, match=r"not those of the backbone; \d+ names or shapes differ") as error:
        load_weights(resnet20(width=8), state, "mine.pth")
    lines = str(error.value).splitlines()
    assert len(lines) == 12
    assert "stem.0.weight: (16, 3, 3, 3) in the file, (8, 3, 3, 3) in the backbone" in lines[1]
    assert lines[-1].endswith("more")


def test_a_missing_tensor_is_refused():
    state = state_of(Net())
    del state["bn.bias"]
    with pytest.raises(InputError, match=r"1 names or shapes differ.*\n  bn\.bias: missing"):
        load_weights(Net(), state, "file")


def test_checkpoints_and_safetensors_are_read(tmp_path):
    state = state_of(Net())
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    for file in ("a.pth", "a.safetensors"):
        assert read_weights(tmp_path / file).keys() == state.keys()


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no weights file"):
        read_weights(tmp_path / "none.pth")
    torch.save(Net(), tmp_path / "module.pth")
    with pytest.raises(InputError, match="save only the state dict"):
        read_weights(tmp_path / "module.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_weights(tmp_path / "epoch.pth")
    for name in ("cut.pth", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"no tensors")
        with pytest.raises(InputError):
            read_weights(tmp_path / name)


def test_a_backbone_is_built_with_a_file(tmp_path):
    net = resnet20()
    torch.save({"model": state_of(net, "backbone.")}, tmp_path / "run.pt")
    backbone = build_backbone(Component("resnet20"), pretrained=True, weights=str(tmp_path / "run.pt"))
    assert torch.equal(backbone.stem[0].weight, net.stem[0].weight + 1)
    assert backbone.weights.startswith("run.pt, sha256 ")
