"""The optimizer gives the bits of torch's own, without importing the compiler."""

import subprocess
import sys

import torch
from torch import nn

from longtail.training.optimizer import SGD

OPTIONS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True, "fused": True}
SCRIPT = """
import sys, torch
from longtail.training.optimizer import SGD
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
