"""One step of gradient descent that can be differentiated, for bilevel methods.

A bilevel method asks how the weights of the examples of a batch change the loss *after* the step. Two answers are here:

- `sgd_lookahead`, for any model: the parameters after the step as a function of whatever the loss depends on, for
  autograd to run through (what the `higher` package does; Grefenstette et al., 2019, https://arxiv.org/abs/1910.01727);
- `example_gradients`, in closed form. The step is linear in the gradient, so the answer for example i is minus the
  step size times the slope of its loss along the gradient of the later loss. No second backward pass is needed.

Shapes: B = batch, D = embedding dimension, C = classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class SGDStep:
    """A step of stochastic gradient descent, as `torch.optim.SGD` takes it, written in differentiable operations.

    Args:
        lr: learning rate.
        momentum: of the velocity.
        weight_decay: L2 penalty.
        nesterov: look ahead along the velocity.

    Example:
        >>> SGDStep(lr=0.1, momentum=0.9, weight_decay=0.0).apply(
        ...     {"w": torch.tensor(1.0)}, {"w": torch.tensor(2.0)}, {"w": torch.tensor(1.0)}
        ... )  # the velocity becomes 0.9 + 2
        {'w': tensor(0.7100)}
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @classmethod
    def next_of(cls, optimizer: torch.optim.SGD) -> "SGDStep":
        """The step that an optimizer would take next, by the settings of its first group."""
        group = optimizer.param_groups[0]
        return cls(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])

    @property
    def gain(self) -> float:
        """How far a parameter moves against each unit of its gradient."""
        return self.lr * (1 + self.momentum if self.nesterov else 1.0)

    def apply(self, parameters: Parameters, gradients: Parameters, velocities: Parameters) -> dict[str, Tensor]:
        """The parameters after the step.

        Args:
            parameters: by name.
            gradients: of the same names.
            velocities: before the step; one that is not there is 0.
        """
        return {name: self._moved(value, gradients[name], velocities.get(name)) for name, value in parameters.items()}

    def _moved(self, value: Tensor, gradient: Tensor, velocity: Tensor | None) -> Tensor:
        pull = gradient + self.weight_decay * value
        new_velocity = pull if velocity is None else self.momentum * velocity + pull
        return value - self.lr * (pull + self.momentum * new_velocity if self.nesterov else new_velocity)


def velocities_of(optimizer: torch.optim.SGD, module: nn.Module) -> dict[str, Tensor]:
    """The velocities that an optimizer keeps of a module's parameters, by name; none before its first step."""
    found = {
        name: optimizer.state[value].get("momentum_buffer")
        for name, value in module.named_parameters()
        if value in optimizer.state
    }
    return {name: velocity for name, velocity in found.items() if velocity is not None}


def call_with(module: nn.Module, parameters: Parameters, *inputs: Any) -> Any:
    """A module's output under other parameters. Its buffers (batch-norm statistics, counters) stay as they are.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> call_with(layer, {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([1.0])}, torch.tensor([[3.0]]))
        tensor([[7.]])
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return functional_call(module, {**parameters, **buffers}, inputs)


def sgd_lookahead(
    parameters: Parameters,
    loss_at: Callable[[Parameters], Tensor],
    step: SGDStep,
    velocities: Parameters | None = None,
) -> dict[str, Tensor]:
    """Parameters after one step down a loss, still a function of whatever `loss_at` depends on.

    Args:
        parameters: of the model by name, which `loss_at` is called with; they are not changed.
        loss_at: parameters -> scalar, such as `lambda p: (weights * losses(call_with(model, p, images))).mean()`.
        step: learning rate, momentum, weight decay.
        velocities: of the optimizer (`velocities_of`); they are not changed.

    Example:
        >>> weight = torch.tensor(3.0, requires_grad=True)  # of the one example
        >>> start = {"w": torch.tensor(1.0, requires_grad=True)}
        >>> after = sgd_lookahead(start, lambda p: weight * p["w"] ** 2, SGDStep(lr=0.1))
        >>> after["w"].detach(), torch.autograd.grad(after["w"], weight)  # 1 - 0.1 * 3 * 2, and its slope
        (tensor(0.4000), (tensor(-0.2000),))
    """
    loss = loss_at(parameters)
    gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    return step.apply(parameters, dict(zip(parameters, gradients, strict=True)), velocities or {})


def example_gradients(slopes_BC: Tensor, residuals_BC: Tensor, gain: float) -> Tensor:
    """How the loss after the step grows with the weight of each example, in closed form. Shape (B,).

    The weights are those of the mean `sum_i weight_i loss_i / B` that the step goes down.

    Args:
        slopes_BC: how the logits of each example move along the gradient of the later loss (`logit_slopes`).
        residuals_BC: gradient of the mean loss with respect to the logits, before the step: of a softmax,
            (p - one_hot) / B.
        gain: how far the step moves a parameter against its gradient (`SGDStep.gain`).

    Example:
        >>> example_gradients(torch.tensor([[1.0, -1.0]]), torch.tensor([[0.3, -0.3]]), gain=0.1)
        tensor([-0.0600])
    """
    return -gain * (residuals_BC * slopes_BC).sum(dim=1)


def softmax_residuals(logits_BC: Tensor, targets_B: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of a batch, and its gradient with respect to the logits: (softmax - one_hot) / B.

    Example:
        >>> softmax_residuals(torch.zeros(1, 2), torch.tensor([1]))
        (tensor(0.6931), tensor([[ 0.5000, -0.5000]]))
    """
    log_p_BC = logits_BC.log_softmax(dim=1)
    index_B1 = targets_B.unsqueeze(1)
    loss = -log_p_BC.gather(1, index_B1).mean()
    minus_one = log_p_BC.new_full((), -1.0).expand_as(index_B1)
    return loss, log_p_BC.exp_().scatter_add_(1, index_B1, minus_one).div_(len(targets_B))


def linear_gradients(head: nn.Linear, embeddings_BD: Tensor, residuals_BC: Tensor) -> dict[str, Tensor]:
    """Gradients of a linear head's parameters, by name, from those of its logits.

    Example:
        >>> head = nn.Linear(1, 2)
        >>> linear_gradients(head, torch.tensor([[3.0]]), torch.tensor([[0.5, -0.5]]))["weight"]
        tensor([[ 1.5000],
                [-1.5000]])
    """
    gradients = {"weight": residuals_BC.T @ embeddings_BD}
    return gradients if head.bias is None else {**gradients, "bias": residuals_BC.sum(dim=0)}


def logit_slopes(head: nn.Module, parameters: Parameters, pull: Parameters, embeddings_BD: Tensor) -> Tensor:
    """How fast the logits change where the parameters of a head move along `pull`. Shape (B, C).

    Args:
        head: embeddings -> logits. A linear one needs no derivative: its logits along `pull` are `pull` applied.
        parameters: at which the slope is taken.
        pull: direction, a tensor for each parameter.
        embeddings_BD: of the batch.

    Example:
        >>> head = nn.Linear(1, 2, bias=False)
        >>> pull = {"weight": torch.tensor([[1.0], [2.0]])}
        >>> logit_slopes(head, dict(head.named_parameters()), pull, torch.tensor([[3.0]]))
        tensor([[3., 6.]])
    """
    if isinstance(head, nn.Linear):
        return F.linear(embeddings_BD, pull["weight"], pull.get("bias"))
    slopes_BC: Tensor = jvp(lambda moved: call_with(head, moved, embeddings_BD), (dict(parameters),), (dict(pull),))[1]
    return slopes_BC
